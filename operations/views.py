"""The API of tasks: Izvor's own, by uuid, and any Proxmox task, by UPID."""

from __future__ import annotations

import datetime
from collections.abc import Set
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.actors import Actor
from accounts.prepared import Slot
from accounts.rest import (
    PAGING,
    Listed,
    NothingSerializer,
    actor_of,
    as_uuid,
    is_storable,
    listing,
    page_by_keys,
    parse,
    refuse_unknown_params,
)
from clusters.connect import connect
from clusters.models import Cluster, Node
from events.wanted import about, subject_values
from operations import idempotency, retrying
from operations.bodies import COLUMNS, body_of_row, task_body
from operations.enqueue import request_cancel
from operations.models import CANCELED, ENDED, UNFINISHED, Operation
from operations.refusals import Conflict, NotFound, SwitchedOff
from operations.rest import accepted, idempotent
from proxmox import Client, Upid
from proxmox import NotFound as NotInProxmox
from proxmox.results import TaskStatus

STATES = (*UNFINISHED, *ENDED)
READ_S = 5.0
# What says more exactly which UPID is meant.
OF_A_UPID = {"node", "cluster"}


def tasks_asked_for(by: Actor, asked: Set[str]) -> QuerySet[Operation]:
    slots = {name: Slot(name) for name in asked}
    found = Operation.objects.visible_to(by)
    if "uuid" in slots:
        found = found.filter(uuid=slots.pop("uuid"))
    if "status" in slots:
        found = found.filter(state=slots.pop("status"))
    if "kind" in slots:
        found = found.filter(kind=slots.pop("kind"))
    return found.filter(about(slots)) if slots else found


TASKS = Listed(tasks_asked_for)


class TaskViewSet(ViewSet):
    """Tasks: what an action set in motion."""

    lookup_value_regex = "[^/]+"

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, {"status", "vm", "kind"} | PAGING)
        asked = request.query_params
        if asked.get("status") and asked["status"] not in STATES:
            raise ValidationError({"status": [f"Give one of {', '.join(STATES)}."]})
        values = {name: asked[name] for name in ("status", "kind") if asked.get(name)}
        if asked.get("vm"):
            values |= subject_values(asked["vm"])
        return listing(
            "tasks", *page_by_keys(request, TASKS, values, COLUMNS, body_of_row, backwards=True)
        )

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, OF_A_UPID)
        if which := as_uuid(pk):
            # As a list of one: nothing but what is shown is read.
            keys = TASKS.keys(actor_of(request), {"uuid": which}, prepare=True)
            for row in keys.rows_of(COLUMNS):
                return Response(body_of_row(row))
        operation = self._find(request, pk)
        if operation is not None:
            return Response(task_body(operation))
        upid, cluster = self._bare(request, pk)
        try:
            status = connect(cluster).task_status(upid, timeout_s=READ_S)
        except NotInProxmox:
            raise NotFound("task_not_found", f"Proxmox knows no task {upid}.") from None
        return Response(upid_body(status))

    @action(detail=True, methods=["get"])
    def log(self, request: Request, pk: str) -> Response:
        """Proxmox's lines of every task that this one has started."""
        refuse_unknown_params(request, OF_A_UPID)
        operation = self._find(request, pk)
        if operation is None:
            upid, cluster = self._bare(request, pk)
            lines = log_lines(connect(cluster), upid)
            if lines is None:
                raise NotFound("task_not_found", f"Proxmox knows no task {upid}.")
            return Response({"log": [{"upid": str(upid), "text": line} for line in lines]})
        upids = [upid for step in operation.steps for upid in step["upids"]]
        if upids and not operation.cluster.is_enabled:
            raise SwitchedOff(operation.cluster)
        client = connect(operation.cluster) if upids else None
        log = [
            {"upid": upid, "text": line}
            for upid in upids
            if client is not None
            # Proxmox forgets old tasks; what it still has is shown.
            for line in log_lines(client, Upid.parse(upid)) or []
        ]
        return Response({"log": log})

    @action(detail=True, methods=["post"])
    @partial(idempotent, wanted=CANCELED)
    def cancel(self, request: Request, pk: str) -> Response:
        """Stop it and undo what it made; 409 where that is impossible."""
        refuse_unknown_params(request, OF_A_UPID)
        operation = self._find(request, pk)
        if operation is None:
            upid, _ = self._bare(request, pk)
            raise Conflict(
                "not_cancelable", f"Izvor did not start {upid}, so it does not cancel it either."
            )
        parse(NothingSerializer, request)
        with transaction.atomic():
            request_cancel(operation, by=actor_of(request))
            idempotency.note([operation])
        operation.refresh_from_db()
        return accepted(operation, wanted=CANCELED)

    @action(detail=True, methods=["post"])
    @idempotent
    def retry(self, request: Request, pk: str) -> Response:
        """A failed one once more, from its failed step, as a new task."""
        refuse_unknown_params(request, OF_A_UPID)
        operation = self._find(request, pk)
        parse(NothingSerializer, request)
        if operation is None:
            raise Conflict(
                "not_retryable", f"Izvor did not start {pk[:255]}, so it cannot retry it."
            )
        return accepted(retrying.retry(operation, by=actor_of(request)))

    def _find(self, request: Request, wanted: str) -> Operation | None:
        """By Izvor's id, or by the UPID of a task that it started; None for any other UPID."""
        visible = Operation.objects.visible_to(actor_of(request)).select_related("cluster")
        if wanted.startswith("UPID:"):
            known: Operation | None = (
                visible.filter(steps__contains=[{"upids": [wanted]}]).first()
                if is_storable(wanted)
                else None
            )
            return known
        which = as_uuid(wanted)
        found: Operation | None = visible.filter(uuid=which).first() if which else None
        if found is None:
            raise NotFound("task_not_found", f"There is no task {wanted[:64]!r}.")
        return found

    def _bare(self, request: Request, text: str) -> tuple[Upid, Cluster]:
        """Operators only: others would see what goes on with VMs that are not theirs."""
        if not actor_of(request).is_operator:
            raise NotFound("task_not_found", "There is no such task.")
        try:
            upid = Upid.parse(text)
        except ValueError:
            raise NotFound("task_not_found", "This is not a UPID of Proxmox.") from None
        node = request.query_params.get("node", upid.node)
        if node != upid.node:
            raise ValidationError({"node": [f"The UPID names node {upid.node}."]})
        on = Cluster.objects.filter(
            pk__in=Node.objects.filter(name=upid.node).values("cluster"), is_enabled=True
        )
        if request.query_params.get("cluster"):
            on = on.filter(name=request.query_params["cluster"])
        clusters = list(on[:2])
        if not clusters:
            raise NotFound("task_not_found", f"No cluster here has a node {upid.node}.")
        if len(clusters) > 1:
            raise Conflict(
                "node_ambiguous", f"Several clusters have a node {upid.node}: add ?cluster=."
            )
        return upid, clusters[0]


def log_lines(client: Client, upid: Upid) -> list[str] | None:
    """None where Proxmox does not know the task (any more)."""
    try:
        return client.task_log(upid, timeout_s=READ_S)
    except NotInProxmox:
        return None


def upid_body(status: TaskStatus) -> dict[str, Any]:
    """A task that Izvor did not start."""
    upid = status.upid
    return {
        "id": str(upid),
        "type": upid.type,
        "status": "running" if status.is_running else "stopped",
        "upid": str(upid),
        "node": upid.node,
        "vmid": upid.id or None,
        "placement": None,
        "progress": None if status.is_running else 100,
        "step": None,
        "steps": [],
        "waiting_for": None,
        "warnings": [],
        "error": None if status.is_running or status.is_ok else status.exit_status,
        "error_code": None,
        "exit_status": status.exit_status,
        "user": upid.user,
        "created_at": None,
        "start_time": datetime.datetime.fromtimestamp(upid.started_at, datetime.UTC),
        "end_time": None,
    }
