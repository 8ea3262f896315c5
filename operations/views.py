"""The API of tasks: Izvor's own, by uuid, and any Proxmox task, by UPID."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from django.conf import settings
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.rest import actor_of, listing, page_of, refuse_unknown_params
from clusters.connect import connect
from clusters.models import Cluster, Node
from operations.enqueue import request_cancel
from operations.models import ENDED, UNFINISHED, Operation
from operations.refusals import Conflict, NotFound
from operations.rest import accepted, task_body
from proxmox import NotFound as NotInProxmox
from proxmox import Upid
from proxmox.results import TaskStatus

STATES = (*UNFINISHED, *ENDED)
READ_S = 5.0


class TaskViewSet(ViewSet):
    """Tasks: what an action set in motion."""

    lookup_value_regex = "[^/]+"

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, {"status", "vm", "kind"})
        asked = request.query_params
        queryset = Operation.objects.visible_to(actor_of(request))
        if asked.get("status"):
            if asked["status"] not in STATES:
                raise ValidationError({"status": [f"Give one of {', '.join(STATES)}."]})
            queryset = queryset.filter(state=asked["status"])
        if asked.get("kind"):
            queryset = queryset.filter(kind=asked["kind"])
        if asked.get("vm"):
            queryset = queryset.filter(**subject_filter(asked["vm"]))
        rows, page = page_of(request, queryset, order="-pk")
        return listing("tasks", [task_body(operation) for operation in rows], page)

    def retrieve(self, request: Request, pk: str) -> Response:
        if pk.startswith("UPID:"):
            return Response(self._by_upid(request, pk))
        return Response(task_body(self._find(request, pk)))

    @action(detail=True, methods=["get"])
    def log(self, request: Request, pk: str) -> Response:
        """Proxmox's lines of every task that this one has started."""
        if pk.startswith("UPID:"):
            upid, cluster = self._bare(request, pk)
            lines = connect(cluster).task_log(upid, timeout_s=READ_S)
            return Response({"log": [{"upid": pk, "text": line} for line in lines]})
        operation = self._find(request, pk)
        client = connect(operation.cluster, call_s=settings.ENGINE["call_s"])
        log = [
            {"upid": upid, "text": line}
            for step in operation.steps
            for upid in step["upids"]
            for line in client.task_log(Upid.parse(upid), timeout_s=READ_S)
        ]
        return Response({"log": log})

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Stop it and undo what it made; 409 where that is impossible."""
        operation = self._find(request, pk)
        request_cancel(operation, by=actor_of(request))
        operation.refresh_from_db()
        return accepted(operation, {"message": f"Task {operation.uuid} is being canceled."})

    def _find(self, request: Request, wanted: str) -> Operation:
        try:
            found = (
                Operation.objects.visible_to(actor_of(request))
                .select_related("cluster")
                .filter(uuid=uuid.UUID(wanted))
                .first()
            )
        except ValueError:
            found = None
        if found is None:
            raise NotFound("task_not_found", f"There is no task {wanted[:64]!r}.")
        return found

    def _by_upid(self, request: Request, text: str) -> dict[str, Any]:
        """One that Izvor started is shown as Izvor's; any other as Proxmox knows it."""
        known = (
            Operation.objects.visible_to(actor_of(request))
            .filter(steps__contains=[{"upids": [text]}])
            .first()
        )
        if known is not None:
            return task_body(known)
        upid, cluster = self._bare(request, text)
        try:
            status = connect(cluster).task_status(upid, timeout_s=READ_S)
        except NotInProxmox:
            raise NotFound("task_not_found", f"Proxmox knows no task {text}.") from None
        return upid_body(status)

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


def subject_filter(wanted: str) -> dict[str, Any]:
    """A VM by uuid, or by the VMID that its task's label begins with."""
    if wanted.isascii() and wanted.isdigit():
        return {"subject_label__startswith": f"{wanted} "}
    try:
        return {"subject": uuid.UUID(wanted)}
    except ValueError:
        raise ValidationError({"vm": ["Give a VMID or a uuid."]}) from None


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
