"""Operations: the persisted tail of every action, and who works on what meanwhile.

An operation's states, each change one guarded UPDATE (`operations.lease.Lease.write`):

    queued  -> running     its first turn began
    queued  -> canceled    canceled before anything happened
    running -> succeeded   its last step's effect was observed
    running -> failed      a step failed for good; what the operation made was undone, unless `keep`
    running -> canceled    canceled; what it made was undone

An ended operation never changes again. A failed one can be retried: that is a new operation, which
goes on at the failed step, or begins at the first where everything was undone.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.actors import Actor
from accounts.models import Project
from clusters.models import Cluster

QUEUED, RUNNING = "queued", "running"
SUCCEEDED, FAILED, CANCELED = "succeeded", "failed", "canceled"
UNFINISHED = (QUEUED, RUNNING)
ENDED = (SUCCEEDED, FAILED, CANCELED)
SHARED, EXCLUSIVE = "shared", "exclusive"


def title_of(kind: str) -> str:
    """`take_snapshot` in words."""
    return kind.replace("_vm", "").replace("_", " ").capitalize()


class OperationQuerySet(models.QuerySet["Operation"]):
    def visible_to(self, actor: Actor) -> OperationQuerySet:
        """Operators see all; others the tasks of their project."""
        return self if actor.is_operator else self.filter(project=actor.project)

    def unfinished(self) -> OperationQuerySet:
        return self.filter(state__in=UNFINISHED)


class Operation(models.Model):
    """An ordered plan of named steps on its way. The API calls it a task."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="operations")
    project = models.ForeignKey(Project, null=True, on_delete=models.SET_NULL)
    kind = models.CharField(max_length=40)
    subject = models.UUIDField(null=True, help_text="the uuid of the VM or template it works on")
    subject_label = models.CharField("of", max_length=255, blank=True)
    by = models.CharField(max_length=100)
    request_id = models.CharField(
        max_length=64,
        blank=True,
        default="",
        # Older code, which still runs during a deploy, does not name it.
        db_default="",
        help_text="of the HTTP request that asked for it; its log lines carry it too",
    )

    params = models.JSONField(default=dict, help_text="what was asked; never a secret")
    sealed_params = models.TextField(
        blank=True, help_text="secrets, encrypted; erased at the end, or when it can't be retried"
    )
    has_secrets = models.BooleanField(default=False, help_text="it was asked with secrets")
    wants = models.JSONField(
        default=list, help_text="claims it holds, or takes when its turn comes"
    )
    after = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="successors"
    )

    retry_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries"
    )

    state = models.CharField(max_length=10, default=QUEUED)
    step = models.CharField(max_length=40, help_text="by name: old and new code run side by side")
    planned = ArrayField(
        models.CharField(max_length=40),
        default=list,
        # Older code, which still runs during a deploy, does not name it.
        db_default=[],
        help_text="all its plan's steps when it was accepted: who knows one of them not leaves it",
    )
    is_undoing = models.BooleanField(default=False)
    step_started_at = models.DateTimeField(null=True)
    # submitted_at without upid: a call is under way, or its answer was lost.
    submitted_at = models.DateTimeField(null=True)
    call_ends_at = models.DateTimeField(
        null=True, help_text="no worker sends the submitted call after this"
    )
    upid = models.CharField(max_length=255, blank=True)
    task_exit = models.TextField(blank=True, help_text="how the Proxmox task ended, once known")
    acted_at = models.DateTimeField(null=True, help_text="Proxmox reported this step's change done")
    attempts = models.PositiveIntegerField(default=0)
    # Four clocks, because each trouble has a patience of its own and ends on its own.
    silent_since = models.DateTimeField(null=True, help_text="the cluster gives no usable answer")
    waiting_since = models.DateTimeField(null=True, help_text="somebody else is at work there")
    trouble_since = models.DateTimeField(null=True, help_text="Proxmox refuses, for the moment")
    crashed_since = models.DateTimeField(null=True, help_text="our own code fails")
    notes = models.JSONField(default=dict, help_text="facts that one step leaves for the next")
    steps = models.JSONField(default=list, help_text="the steps taken so far, with times and UPIDs")

    due_at = models.DateTimeField(null=True, help_text="empty: not before somebody nudges it")
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)

    progress = models.PositiveSmallIntegerField(default=0)
    waiting_for = models.CharField(max_length=500, blank=True)
    warnings = ArrayField(models.TextField(), default=list)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_by = models.CharField(max_length=100, blank=True)

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    # How the API shows it and its subject, where these were read as they were written; no columns.
    body: dict[str, Any] | None = None
    subject_body: dict[str, Any] | None = None

    objects: ClassVar[Any] = OperationQuerySet.as_manager()

    class Meta:
        verbose_name = "task"
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(state__in=UNFINISHED), name="operations_to_do"
            ),
            models.Index(
                fields=["cluster"],
                condition=Q(state=RUNNING) & ~Q(upid=""),
                name="operations_with_a_task",
            ),
            models.Index(fields=["subject", "-id"], name="operations_of_a_subject"),
            models.Index(
                fields=["ended_at"],
                condition=Q(state__in=ENDED) & ~Q(sealed_params=""),
                name="ended_operations_with_secrets",
            ),
            models.Index(fields=["project", "-id"], name="operations_of_a_project"),
            models.Index(fields=["created_at"], name="operations_by_time"),
            models.Index(fields=["ended_at"], condition=Q(state=FAILED), name="failed_operations"),
            models.Index(fields=["upid"], condition=~Q(upid=""), name="operation_of_a_upid"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=UNFINISHED, ended_at=None)
                | Q(state__in=ENDED, ended_at__isnull=False),
                name="only_ended_operations_have_an_end",
            ),
            models.CheckConstraint(
                condition=Q(upid="") | Q(submitted_at__isnull=False),
                name="a_upid_comes_from_a_submission",
            ),
            models.CheckConstraint(
                condition=~Q(state=FAILED) | ~Q(error_code=""),
                name="a_failed_operation_says_why",
            ),
            models.UniqueConstraint(
                fields=["after"], condition=Q(state=QUEUED), name="one_successor_waits_in_line"
            ),
        ]

    def __str__(self) -> str:
        return f"{title_of(self.kind)} {self.subject_label}".strip()

    @property
    def log_ids(self) -> dict[str, str]:
        """What every log line of its turns carries."""
        ids = {"task": str(self.uuid), "request_id": self.request_id}
        return {name: value for name, value in ids.items() if value}

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED

    @property
    def placement(self) -> dict[str, Any] | None:
        """Of what makes a VM: on which node, and why there."""
        return self.params.get("placement")  # type: ignore[no-any-return]


class Claim(models.Model):
    """Who works on what: one exclusive holder of an object, or any number of shared ones."""

    object = models.CharField(max_length=80, help_text="e.g. vm:<uuid>")
    mode = models.CharField(max_length=9, choices=[(m, m) for m in (SHARED, EXCLUSIVE)])
    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="claims")

    class Meta:
        indexes = [models.Index(fields=["object"], name="claims_on_an_object")]
        constraints = [
            models.UniqueConstraint(
                fields=["object"],
                condition=Q(mode=EXCLUSIVE),
                name="one_exclusive_claim_per_object",
            ),
            models.UniqueConstraint(
                fields=["operation", "object"], name="one_claim_per_operation_and_object"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.mode} {self.object}"


class Lane(models.Model):
    """How many heavy Proxmox tasks run at once on a storage, a node or a running source VM."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="lanes")
    key = models.CharField(max_length=120, help_text="e.g. storage:ceph, node:pve2")
    limit = models.PositiveIntegerField(default=4, validators=[MinValueValidator(1)])

    class Meta:
        ordering = ["cluster", "key"]
        constraints = [
            models.UniqueConstraint(fields=["cluster", "key"], name="one_lane_per_key"),
            models.CheckConstraint(condition=Q(limit__gte=1), name="a_lane_lets_somebody_through"),
        ]

    def __str__(self) -> str:
        return self.key


class LaneTicket(models.Model):
    """An operation's place in a lane: waiting in the order of operations, or through."""

    lane = models.ForeignKey(Lane, on_delete=models.CASCADE, related_name="tickets")
    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="tickets")
    is_through = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["lane", "operation"], name="one_ticket_per_lane_and_operation"
            )
        ]
        indexes = [
            models.Index(
                fields=["lane", "operation"],
                condition=Q(is_through=False),
                name="tickets_in_line_by_operation",
            )
        ]

    def __str__(self) -> str:
        return f"{self.operation_id} in {self.lane_id}"


class IdempotencyKey(models.Model):
    """A request's Idempotency-Key and what it stands for: tasks (several of a batch), or something
    that was done at once."""

    caller = models.CharField(max_length=120)
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, help_text="of the request, keyed; never its body")
    operations = ArrayField(models.UUIDField(), default=list)
    status = models.PositiveSmallIntegerField(null=True, help_text="of what was done at once")
    made = models.CharField(max_length=80, blank=True, help_text="e.g. token:<uuid>")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["caller", "key"], name="one_result_per_key"),
            models.CheckConstraint(
                condition=Q(status=None) | Q(operations=[]), name="a_key_stands_for_one_result"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} of {self.caller}"
