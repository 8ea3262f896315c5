"""The API of VMs and sizes: parse, look for what the caller may see, call one action."""

from __future__ import annotations

import re
import uuid

from django.db.models import QuerySet
from django.db.models.functions import Now
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.rest import (
    PAGING,
    actor_of,
    listing,
    page_of,
    parse,
    public_origin,
    refuse_unknown_params,
)
from operations.refusals import Conflict, NotFound
from operations.rest import accepted, flag_of, idempotent
from vms import actions, console
from vms.answers import changed_body
from vms.bodies import bodies_of, vm_body
from vms.dry_run import describe_creation
from vms.models import STATUSES, GivenUpVmid, VirtualMachine
from vms.refresh import refresh_vm
from vms.serializers import (
    CreateVmSerializer,
    UpdateVmSerializer,
    changes_of,
    new_vm_of,
)
from vms.series import series_body
from vms.size_views import SizeViewSet
from vms.verbs import VERBS, ActionName

FILTERS = {"node", "cluster", "status", "tag", "template", "name", "search", "project"}


def find_vm(request: Request, wanted: str, *, is_for_reading: bool = False) -> VirtualMachine:
    """By VMID (with `?cluster=` where two clusters have it) or uuid; for reading its key is enough.

    Raises NotFound for what the caller may not see too, Conflict for an ambiguous or given-up VMID.
    """
    visible = VirtualMachine.objects.visible_to(actor_of(request)).order_by()
    visible = visible.only("pk") if is_for_reading else visible.select_related("cluster")
    if re.fullmatch(r"[0-9]{3,9}", wanted):
        return _find_by_vmid(request, visible, int(wanted))
    try:
        vm = next(iter(visible.filter(uuid=uuid.UUID(wanted))), None)
    except ValueError:
        vm = None
    if vm is None:
        raise NotFound("vm_not_found", f"There is no VM {wanted[:64]!r}.")
    return vm


def _find_by_vmid(request: Request, visible: QuerySet[VirtualMachine], vmid: int) -> VirtualMachine:
    cluster = request.query_params.get("cluster")
    here = visible.filter(cluster__name=cluster) if cluster else visible
    found = list(here.filter(vmid=vmid).annotate(is_given_up=GivenUpVmid.has(vmid))[:2])
    if len(found) > 1:
        names = " and ".join(sorted(vm.cluster.name for vm in found))
        raise Conflict(
            "vmid_ambiguous", f"VMID {vmid} is in {names}: add ?cluster=, or use the uuid."
        )
    # Hardly ever, so that the caller's rights are asked about only then.
    given_up = (not found or found[0].is_given_up) and (
        GivenUpVmid.objects.filter(vmid=vmid, until__gt=Now(), vm__in=here)
        .select_related("vm")
        .first()
    )
    if given_up:
        raise Conflict(
            "vmid_changed",
            f"The VM that was to be {vmid} is {given_up.vm.vmid} (uuid {given_up.vm.uuid}), "
            f"because another VM on the cluster took {vmid}.",
        )
    if not found:
        raise NotFound("vm_not_found", f"There is no VM {vmid}.")
    return found[0]


class VmViewSet(ViewSet):
    """Virtual machines."""

    lookup_value_regex = "[^/]+"

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, FILTERS | PAGING)
        queryset = filtered(VirtualMachine.objects.visible_to(actor_of(request)), request)
        rows, page = page_of(request, queryset, columns=["pk"])
        return listing("vms", bodies_of([pk for (pk,) in rows]), page)

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"})
        wants_news = flag_of(request, "refresh")
        vm = find_vm(request, pk, is_for_reading=not wants_news)
        if wants_news:
            refresh_vm(vm)
        return Response(vm_body(vm))

    @idempotent
    def create(self, request: Request) -> Response:
        refuse_unknown_params(request, {"dry_run"})
        asked = new_vm_of(parse(CreateVmSerializer, request))
        if flag_of(request, "dry_run"):
            return Response(describe_creation(asked, by=actor_of(request)))
        made = actions.create_vms(asked=asked, by=actor_of(request))
        return accepted(*(operation for _, operation in made))

    @idempotent
    def destroy(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster"})
        vm = find_vm(request, pk)
        return accepted(actions.delete_vm(vm=vm, by=actor_of(request)))

    @action(detail=True, methods=["post"], url_path="actions")
    @idempotent
    def act(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster"})
        vm = find_vm(request, pk)
        verb = verb_of(request)
        checked = parse(VERBS[verb].takes, request)
        return accepted(VERBS[verb].call(vm, checked, actor_of(request)))

    def update(self, request: Request, pk: str) -> Response:
        """PUT: as PATCH, what is not named stays."""
        return self.partial_update(request, pk)

    @idempotent
    def partial_update(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster"})
        vm = find_vm(request, pk)
        changes = changes_of(parse(UpdateVmSerializer, request))
        operation = actions.update_vm(vm=vm, changes=changes, by=actor_of(request))
        if operation is None:
            return Response(changed_body(find_vm(request, str(vm.uuid)), pending=[]))
        return accepted(operation)

    @action(detail=True, methods=["get"])
    def metrics(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster", "timeframe"})
        vm = find_vm(request, pk)
        return Response(series_body(request, vm.cluster, vm.node, vm.vmid))

    @action(detail=True, methods=["get"])
    def console(self, request: Request, pk: str) -> Response:
        """A link that opens the VM's screen in a browser, once, within a minute."""
        refuse_unknown_params(request, {"cluster"})
        link = console.mint_link(vm=find_vm(request, pk), by=actor_of(request))
        body = console.link_body(link, public_origin(request))
        return Response(body, headers={"Cache-Control": "no-store"})

    @action(detail=False, methods=["get"])
    def sizes(self, request: Request) -> Response:
        return SizeViewSet().list(request)


def filtered(queryset: QuerySet[VirtualMachine], request: Request) -> QuerySet[VirtualMachine]:
    """The list's filters; a status that does not exist is an error rather than an empty list."""
    asked = request.query_params
    exact = {
        "node": "node",
        "cluster": "cluster__name",
        "template": "template_name",
        "name": "name",
        "project": "project__name",
        "status": "status",
    }
    if asked.get("status") and asked["status"] not in STATUSES:
        raise ValidationError({"status": [f"Give one of {', '.join(sorted(set(STATUSES)))}."]})
    for name, column in exact.items():
        if asked.get(name):
            queryset = queryset.filter(**{column: asked[name]})
    if asked.get("tag"):
        queryset = queryset.filter(tags__contains=asked.getlist("tag"))
    if asked.get("search"):
        queryset = queryset.filter(name__icontains=asked["search"])
    return queryset


def verb_of(request: Request) -> str:
    """The body's `action`. Raises ValidationError when it is none of ours."""
    body = request.data if isinstance(request.data, dict) else {}
    name = ActionName(data={"action": body["action"]} if "action" in body else {})
    if not name.is_valid():
        known = {field for verb in VERBS.values() for field in verb.takes().fields}
        unknown = {field: ["There is no such field."] for field in sorted(set(body) - known)}
        raise ValidationError({**name.errors, **unknown})
    return str(name.validated_data["action"])
