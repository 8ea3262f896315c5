"""What operators do to VMs: the same actions as the API's, one task for each VM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.safestring import SafeString
from rest_framework.exceptions import ValidationError as Invalid
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from accounts.actors import Actor
from accounts.admin_verbs import Verb, VerbForm
from accounts.models import Project
from clusters.models import Node
from operations.admin.shown import task_link
from operations.models import Operation
from vms import actions
from vms.actions import ALLOWED
from vms.asked import VmChanges
from vms.attention import is_orphan, is_unmarked
from vms.fields import check_snapshot_name
from vms.models import DELETING, PAUSED, Snapshot, VirtualMachine

STOP_S, REBOOT_S = 60, 180
Say = Callable[[VirtualMachine, dict[str, Any], Actor], SafeString | str]


class SnapshotForm(VerbForm):
    """A new one."""

    name = forms.CharField(max_length=40, widget=UnfoldAdminTextInputWidget())
    description = forms.CharField(
        required=False, max_length=4096, widget=UnfoldAdminTextInputWidget()
    )
    include_ram = forms.BooleanField(
        label="With memory",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="A running VM then goes on where it was when it is rolled back.",
    )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        try:
            check_snapshot_name(name)
        except Invalid as error:
            raise ValidationError([str(line) for line in error.detail]) from None
        return name


class KnownSnapshotForm(VerbForm):
    """One that the VM has."""

    snapshot = forms.ChoiceField(widget=UnfoldAdminSelectWidget())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = Snapshot.objects.filter(vm__in=self.rows).values_list("name", flat=True)
        field = self.fields["snapshot"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(name, name) for name in sorted(set(names))]


class RollbackForm(KnownSnapshotForm):
    start = forms.BooleanField(
        label="Start it afterwards", required=False, widget=UnfoldBooleanSwitchWidget()
    )


class MigrateForm(VerbForm):
    """Nodes that are there and online, of the VMs' clusters."""

    node = forms.ChoiceField(label="To node", widget=UnfoldAdminSelectWidget())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        clusters = {vm.cluster_id for vm in self.rows}
        nodes = Node.objects.filter(cluster__in=clusters, status="online", missing_since=None)
        # A single VM is not offered the node that it is on.
        here = {vm.node for vm in self.rows} if len(self.rows) == 1 else set()
        field = self.fields["node"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            (node.name, f"{node.name} · {shown_load(node)}")
            for node in nodes.order_by("name")
            if node.name not in here
        ]


def shown_load(node: Node) -> str:
    free = (node.memory_bytes - node.memory_used_bytes) / 1024**3
    return f"{free:.0f} GiB of memory free, CPU {100 * node.cpu_fraction:.0f} %"


class AssignForm(VerbForm):
    """The project that gets it."""

    project = forms.ModelChoiceField(
        queryset=Project.objects.all(),
        required=False,
        empty_label="nobody",
        to_field_name="name",
        widget=UnfoldAdminSelectWidget(),
    )


def a_task(act: Callable[..., Operation], **fixed: Any) -> Say:
    """A verb that becomes a task."""
    return lambda vm, told, by: task_link(act(vm=vm, by=by, **fixed))


def snapshot(vm: VirtualMachine, told: dict[str, Any], by: Actor) -> SafeString:
    return task_link(actions.take_snapshot(vm=vm, by=by, **told))


def roll_back(vm: VirtualMachine, told: dict[str, Any], by: Actor) -> SafeString:
    name, start = told["snapshot"], told["start"]
    return task_link(actions.rollback_snapshot(vm=vm, name=name, start=start, by=by))


def drop_snapshot(vm: VirtualMachine, told: dict[str, Any], by: Actor) -> SafeString:
    return task_link(actions.delete_snapshot(vm=vm, name=told["snapshot"], by=by))


def migrate(vm: VirtualMachine, told: dict[str, Any], by: Actor) -> SafeString:
    return task_link(actions.migrate_vm(vm=vm, node=told["node"], by=by))


def assign(vm: VirtualMachine, told: dict[str, Any], by: Actor) -> str:
    project = told["project"]
    changes = VmChanges(project=project.name if project else "")
    actions.update_vm(vm=vm, changes=changes, by=by)
    return f"belongs to {project or 'nobody'} now."


def forget(vm: VirtualMachine, told: dict[str, Any], by: Actor) -> str:
    actions.forget_vm(vm=vm, by=by)
    return "is forgotten."


def adopt(vm: VirtualMachine, told: dict[str, Any], by: Actor) -> SafeString:
    return task_link(actions.adopt_vm(vm=vm, project=told["project"], by=by))


def protect(is_protected: bool) -> Say:
    def say(vm: VirtualMachine, told: dict[str, Any], by: Actor) -> str:
        actions.update_vm(vm=vm, changes=VmChanges(is_protected=is_protected), by=by)
        return f"is {'protected' if is_protected else 'no longer protected'}."

    return say


def allows(verb: str) -> Callable[[VirtualMachine], bool]:
    """Shown where the VM's state, as it was last seen, lets the verb through."""
    return lambda vm: is_idle(vm) and vm.status in ALLOWED[verb]


def is_idle(vm: VirtualMachine) -> bool:
    return not vm.doing and vm.deleted_at is None


def is_living(vm: VirtualMachine) -> bool:
    return vm.deleted_at is None


VERBS = (
    Verb("start", "Start", "play_arrow", a_task(actions.start_vm), fits=allows("start")),
    Verb(
        "resume",
        "Resume",
        "resume",
        a_task(actions.resume_vm),
        fits=lambda vm: is_idle(vm) and vm.status == PAUSED,
    ),
    Verb(
        "stop",
        "Stop",
        "stop",
        a_task(actions.stop_vm, force=False, timeout_s=STOP_S),
        fits=allows("stop"),
    ),
    Verb(
        "force_stop",
        "Force stop",
        "power_off",
        a_task(actions.stop_vm, force=True, timeout_s=STOP_S),
        fits=allows("stop"),
        question="The plug is pulled: what the guest has not written yet is lost.",
        is_dangerous=True,
    ),
    Verb(
        "reboot",
        "Reboot",
        "restart_alt",
        a_task(actions.reboot_vm, timeout_s=REBOOT_S),
        fits=allows("reboot"),
    ),
    Verb(
        "snapshot",
        "Snapshot",
        "photo_camera",
        snapshot,
        form=SnapshotForm,
        fits=allows("snapshot"),
    ),
    Verb("migrate", "Migrate", "move_down", migrate, form=MigrateForm, fits=allows("migrate")),
    Verb("assign", "Assign to project", "workspaces", assign, form=AssignForm, fits=is_living),
    Verb(
        "protect",
        "Protect",
        "lock",
        protect(True),
        fits=lambda vm: is_living(vm) and not vm.is_protected,
    ),
    Verb(
        "unprotect",
        "Unprotect",
        "lock_open",
        protect(False),
        fits=lambda vm: is_living(vm) and vm.is_protected,
    ),
    Verb(
        "delete",
        "Delete",
        "delete",
        a_task(actions.delete_vm),
        fits=lambda vm: is_living(vm) and not vm.is_protected and vm.status != DELETING,
        question="It is stopped if it runs, and destroyed with its disks and its snapshots. "
        "There is no way back.",
        is_dangerous=True,
    ),
    Verb(
        "forget",
        "Forget",
        "delete_forever",
        forget,
        fits=lambda vm: is_idle(vm) and (vm.missing_since or not vm.cluster.is_enabled),
        question="Its record is dropped; on the cluster nothing is done.",
        is_dangerous=True,
    ),
    Verb(
        "adopt",
        "Adopt",
        "add_home",
        adopt,
        form=AssignForm,
        fits=lambda vm: is_idle(vm) and is_orphan(vm),
    ),
    Verb(
        "mark",
        "Mark again",
        "sell",
        a_task(actions.mark_vm),
        fits=lambda vm: is_idle(vm) and is_unmarked(vm),
    ),
    Verb(
        "rollback",
        "Roll back",
        "history",
        roll_back,
        form=RollbackForm,
        fits=lambda vm: False,
        question="What has changed since the snapshot is lost.",
        is_dangerous=True,
        is_for_many=False,
    ),
    Verb(
        "delete_snapshot",
        "Delete",
        "delete",
        drop_snapshot,
        form=KnownSnapshotForm,
        fits=lambda vm: False,
        question="The snapshot is forgotten; the VM stays as it is.",
        is_dangerous=True,
        is_for_many=False,
    ),
)
# Those of a single snapshot stand beside it, not among the VM's own.
OF_A_SNAPSHOT = {verb.name: verb for verb in VERBS if not verb.is_for_many}
