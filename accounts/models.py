"""Projects, who belongs to them, the tokens that speak for them and what they may use."""

from __future__ import annotations

import datetime
import hashlib
import secrets
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.actors import MEMBER, OPERATOR, VIEWER, Actor
from accounts.prepared import Prepared, Slot
from accounts.sql import ask

ROLES = [
    (VIEWER, "Viewer: reads its project"),
    (MEMBER, "Member: uses its project's VMs"),
    (OPERATOR, "Operator: everything, and the infrastructure"),
]
HOLD = "SELECT FROM accounts_project WHERE id = %s FOR KEY SHARE"
TOKEN_PREFIX = "izv_"  # noqa: S105 - the visible start of every token, no secret


class ProjectQuerySet(models.QuerySet["Project"]):
    def visible_to(self, actor: Actor) -> ProjectQuerySet:
        """Operators see all; others their own."""
        if actor.is_operator:
            return self
        return self.filter(pk=actor.project.pk) if actor.project else self.none()


class Project(models.Model):
    """A tenant: VMs, tokens and quotas belong to one."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.SlugField(max_length=63, unique=True)
    description = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Any] = ProjectQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def hold(self) -> Callable[[], bool]:
        """Keep it from being deleted until the transaction ends; False if it is gone already, which
        is told as `accounts.sql.ask` does.

        By the lock that a row which refers to it takes: others that hold it wait for nothing.
        """
        answer = ask(HOLD, [self.pk], prepare=True)
        return lambda: bool(answer())


class Membership(models.Model):
    """A person's role in a project, for those who log in to the admin."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=10, choices=ROLES, default=MEMBER)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "user"], name="one_role_per_person_and_project"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.project}: {self.role}"


class Quota(models.Model):
    """What a project may hold at most; an empty field sets no limit."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, related_name="quota")
    vms = models.PositiveIntegerField(null=True, blank=True)
    cores = models.PositiveIntegerField(null=True, blank=True)
    memory_mib = models.PositiveIntegerField("memory (MiB)", null=True, blank=True)
    disk_gib = models.PositiveIntegerField("disk (GiB)", null=True, blank=True)
    snapshots = models.PositiveIntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return f"Quota of {self.project}"


class ApiTokenManager(models.Manager["ApiToken"]):
    def issue(
        self,
        *,
        name: str,
        project: Project,
        role: str = MEMBER,
        expires_at: datetime.datetime | None = None,
    ) -> tuple[ApiToken, str]:
        """Make a token; the second value is its text, which is stored nowhere."""
        text = TOKEN_PREFIX + secrets.token_urlsafe(32)
        token = self.create(
            name=name,
            project=project,
            role=role,
            prefix=text[:12],
            secret_hash=_hash(text),
            expires_at=expires_at,
        )
        return token, text

    def usable(self, now: datetime.datetime | Slot | None = None) -> models.QuerySet[ApiToken]:
        """Those that are neither expired nor revoked."""
        is_fresh = Q(expires_at=None) | Q(expires_at__gt=now or timezone.now())
        return self.select_related("project").filter(is_fresh, revoked_at=None)

    def find(self, text: str) -> ApiToken | None:
        """The usable token with this text."""
        return _OF_SECRET.first(secret_hash=_hash(text), now=timezone.now())

    def visible_to(self, actor: Actor) -> models.QuerySet[ApiToken]:
        """Operators see all; others those of their project that can do no more than a member."""
        if actor.is_operator:
            return self.all()
        return self.filter(project=actor.project).exclude(role=OPERATOR)


# Each request asks this.
_OF_SECRET = Prepared(
    lambda: ApiToken.objects.usable(Slot("now")).filter(secret_hash=Slot("secret_hash")).order_by()
)


def _hash(text: str) -> str:
    # The text carries 256 random bits, so a plain digest cannot be searched.
    return hashlib.sha256(text.encode()).hexdigest()


class ApiToken(models.Model):
    """An API token. Only a digest of its text is stored."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=63)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tokens")
    role = models.CharField(max_length=10, choices=ROLES, default=MEMBER)
    prefix = models.CharField(max_length=12, editable=False)
    secret_hash = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[ApiTokenManager] = ApiTokenManager()

    class Meta:
        verbose_name = "API token"
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name"],
                condition=Q(revoked_at=None),
                name="one_living_token_per_name",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def as_actor(self) -> Actor:
        return Actor(
            name=f"token:{self.name}", role=self.role, project=self.project, token_id=self.pk
        )

    def touch(self) -> None:
        """Note the use, at most once a minute: a busy token must not write at every request."""
        now = timezone.now()
        if self.last_used_at is None or (now - self.last_used_at).total_seconds() > 60:
            ApiToken.objects.filter(pk=self.pk).update(last_used_at=now)
