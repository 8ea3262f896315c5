"""The API of VMs and sizes: parse, look for what the caller may see, call one action."""

from __future__ import annotations

from collections.abc import Set
from functools import cache
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.actors import Actor, anybody, sight_of, slots_of
from accounts.prepared import Prepared, Slot
from accounts.rest import (
    PAGING,
    Listed,
    actor_of,
    as_uuid,
    as_vmid,
    listing,
    page_by_keys,
    parse,
    public_origin,
    refuse_unknown_params,
)
from operations.refusals import Conflict, NotFound
from operations.rest import accepted, flag_of, idempotent, refresh_if_asked, shows
from vms import actions, console
from vms.answers import changed_body
from vms.bodies import COLUMNS, document_of, vm_body
from vms.dry_run import describe_creation
from vms.models import STATUSES, GivenUpVmid, VirtualMachine
from vms.refresh import refresh_vm
from vms.serializers import (
    CreateVmSerializer,
    UpdateVmSerializer,
    changes_of,
    new_vm_of,
)
from vms.series import vm_series_body
from vms.size_views import SizeViewSet
from vms.verbs import VERBS, ActionName

# What the list can be filtered by, and what is compared with it.
FILTERS = {
    "node": "node",
    "cluster": "cluster__name",
    "template": "template_name",
    "name": "name",
    "project": "project__name",
    "status": "status",
    "tag": "tags__contains",
    "search": "name__icontains",
}


def vms_asked_for(by: Actor, asked: Set[str]) -> QuerySet[VirtualMachine]:
    """By filters, and by what a path can name: a uuid, or a VMID that no other VM has given up."""
    columns = FILTERS | {"uuid": "uuid", "vmid": "vmid"}
    seen = VirtualMachine.objects.visible_to(by)
    seen = seen.filter(**{columns[name]: Slot(name) for name in asked})
    return seen.exclude(GivenUpVmid.has(Slot("vmid"))) if "vmid" in asked else seen


VMS = Listed(vms_asked_for)


def body_of_vm(request: Request, wanted: str) -> Any:
    """As `find_vm`, by the statement of the list: nothing but what is shown is read."""
    values: dict[str, Any] = {}
    vmid = as_vmid(wanted)
    if vmid is not None:
        values["vmid"] = vmid
        if cluster := request.query_params.get("cluster"):
            values["cluster"] = cluster
    else:
        values["uuid"] = as_uuid(wanted)
    found = VMS.keys(actor_of(request), values, prepare=True).rows_of(COLUMNS)
    if len(found) == 1:
        return document_of(found[0])
    # None, or in two clusters: that one says so.
    return vm_body(find_vm(request, wanted))


def find_vm(request: Request, wanted: str) -> VirtualMachine:
    """By VMID (with `?cluster=` where two clusters have it) or uuid.

    Raises NotFound for what the caller may not see too, Conflict for an ambiguous or given-up VMID.
    """
    vmid = as_vmid(wanted)
    if vmid is not None:
        return _find_by_vmid(request, vmid)
    actor = actor_of(request)
    vms: Prepared[VirtualMachine] = finder("uuid", **sight_of(actor))
    for vm in vms(wanted=as_uuid(wanted), **slots_of(actor)):
        return vm
    raise NotFound("vm_not_found", f"There is no VM {wanted[:64]!r}.")


def _find_by_vmid(request: Request, vmid: int) -> VirtualMachine:
    actor, cluster = actor_of(request), request.query_params.get("cluster")
    vms = finder("vmid", in_cluster=bool(cluster), **sight_of(actor))
    found = vms(wanted=vmid, cluster=cluster, **slots_of(actor))
    # What stands on a cluster that is switched off is in nobody's way.
    found = [vm for vm in found if vm.cluster.is_enabled] or found
    if len(found) > 1:
        names = " and ".join(sorted(vm.cluster.name for vm in found))
        raise Conflict(
            "vmid_ambiguous", f"VMID {vmid} is in {names}: add ?cluster=, or use the uuid."
        )
    # Hardly ever, so that the caller's rights are asked about only then.
    if not found or found[0].is_given_up:
        check_given_up(actor, vmid, cluster)
    if not found:
        raise NotFound("vm_not_found", f"There is no VM {vmid}.")
    vm: VirtualMachine = found[0]
    return vm


@cache
def finder(
    field: str, *, is_operator: bool, has_project: bool, in_cluster: bool = False
) -> Prepared[Any]:
    """The VMs, at most two, that the caller sees under a uuid or VMID."""

    def make() -> QuerySet[Any]:
        by = anybody(is_operator=is_operator, has_project=has_project)
        seen = VirtualMachine.objects.visible_to(by).filter(**{field: Slot("wanted")}).order_by()
        if in_cluster:
            seen = seen.filter(cluster__name=Slot("cluster"))
        if field == "vmid":
            seen = seen.annotate(is_given_up=GivenUpVmid.has(Slot("wanted")))
        return seen.select_related("cluster").order_by("-cluster__is_enabled")[:2]

    return Prepared(make)


def check_given_up(actor: Actor, vmid: int, cluster: str | None) -> None:
    """Raises Conflict, with the VM's number now, where one that the caller sees had this one."""
    seen = VirtualMachine.objects.visible_to(actor)
    seen = seen.filter(cluster__name=cluster) if cluster else seen
    given_up = GivenUpVmid.objects.filter(vmid=vmid, until__gt=Now(), vm__in=seen.order_by())
    for had in given_up.select_related("vm")[:1]:
        raise Conflict(
            "vmid_changed",
            f"The VM that was to be {vmid} is {had.vm.vmid} (uuid {had.vm.uuid}), "
            f"because another VM on the cluster took {vmid}.",
        )


class VmViewSet(ViewSet):
    """Virtual machines."""

    lookup_value_regex = "[^/]+"

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, FILTERS.keys() | {"refresh"} | PAGING, lists={"tag"})
        asked: dict[str, Any] = {name: request.query_params.get(name) for name in FILTERS}
        if asked["status"] and asked["status"] not in STATUSES:
            raise ValidationError({"status": [f"Give one of {', '.join(sorted(set(STATUSES)))}."]})
        asked["tag"] = asked["tag"] and request.query_params.getlist("tag")
        values = {name: value for name, value in asked.items() if value}
        refresh_if_asked(request)
        return listing("vms", *page_by_keys(request, VMS, values, COLUMNS, document_of))

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"})
        if not flag_of(request, "refresh"):
            return Response(body_of_vm(request, pk))
        vm = find_vm(request, pk)
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
            return Response(shown_vm(request, str(vm.uuid)))
        return accepted(operation)

    @action(detail=True, methods=["get"])
    def metrics(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster", "timeframe"})
        vm = find_vm(request, pk)
        return Response(vm_series_body(request, vm))

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


def verb_of(request: Request) -> str:
    """The body's `action`. Raises ValidationError when it is none of ours."""
    body = request.data if isinstance(request.data, dict) else {}
    name = ActionName(data={"action": body["action"]} if "action" in body else {})
    if not name.is_valid():
        known = {field for verb in VERBS.values() for field in verb.takes().fields}
        unknown = {field: ["There is no such field."] for field in sorted(set(body) - known)}
        raise ValidationError({**name.errors, **unknown})
    return str(name.validated_data["action"])


@shows("vm")
def shown_vm(request: Request, uuid: str) -> dict[str, Any]:
    """Whose own fields were changed."""
    return changed_body(find_vm(request, uuid), pending=[])
