"""`POST /vms/{id}/actions`: the table of verbs, what each takes, and the action it calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rest_framework import serializers

from accounts.actors import Actor
from accounts.rest import StrictSerializer
from operations.models import Operation
from vms import actions, fields
from vms.asked import CloneOf
from vms.fields import StrictBooleanField, StrictCharField, StrictIntegerField
from vms.models import VirtualMachine
from vms.serializers import VmFields, hardware_asked


class Nothing(StrictSerializer):
    """Only the action's name."""

    action = StrictCharField()


class Stop(Nothing):
    force = StrictBooleanField(default=False)
    timeout = StrictIntegerField(min_value=1, max_value=3600, default=60, help_text="seconds")


class ShutDown(Nothing):
    force = StrictBooleanField(default=False)
    timeout = StrictIntegerField(min_value=1, max_value=3600, default=180, help_text="seconds")


class Reboot(Nothing):
    timeout = StrictIntegerField(min_value=1, max_value=3600, default=180, help_text="seconds")


class TakeSnapshot(Nothing):
    snapshot_name = StrictCharField(validators=[fields.check_snapshot_name])
    description = StrictCharField(max_length=4096, default="", allow_blank=True)
    include_ram = StrictBooleanField(default=False)


class Clone(VmFields):
    """Another VM like this one; what is named differs."""

    action = StrictCharField()
    start_on_create = StrictBooleanField(default=False)
    clone_name = StrictCharField(min_length=2, max_length=63, validators=[fields.check_name])
    linked = StrictBooleanField(default=False)
    node = StrictCharField(max_length=63, default="")
    storage = StrictCharField(max_length=100, default="")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["linked"] and attrs["storage"]:
            raise serializers.ValidationError(
                {"storage": "A linked clone stays on its source's storage; leave this out."}
            )
        return attrs


class Migrate(Nothing):
    node = StrictCharField(max_length=63)


Call = Callable[[VirtualMachine, dict[str, Any], Actor], Operation]


@dataclass(frozen=True)
class Verb:
    takes: type[StrictSerializer]
    call: Call


VERBS: dict[str, Verb] = {
    "start": Verb(Nothing, lambda vm, asked, by: actions.start_vm(vm=vm, by=by)),
    "stop": Verb(
        Stop,
        lambda vm, asked, by: actions.stop_vm(
            vm=vm, force=asked["force"], timeout_s=asked["timeout"], by=by
        ),
    ),
    "shutdown": Verb(
        ShutDown,
        lambda vm, asked, by: actions.shutdown_vm(
            vm=vm, force=asked["force"], timeout_s=asked["timeout"], by=by
        ),
    ),
    "reboot": Verb(
        Reboot, lambda vm, asked, by: actions.reboot_vm(vm=vm, timeout_s=asked["timeout"], by=by)
    ),
    "reset": Verb(Nothing, lambda vm, asked, by: actions.reset_vm(vm=vm, by=by)),
    "suspend": Verb(Nothing, lambda vm, asked, by: actions.suspend_vm(vm=vm, by=by)),
    "resume": Verb(Nothing, lambda vm, asked, by: actions.resume_vm(vm=vm, by=by)),
    "snapshot": Verb(
        TakeSnapshot,
        lambda vm, asked, by: actions.take_snapshot(
            vm=vm,
            name=asked["snapshot_name"],
            named_in="snapshot_name",
            description=asked["description"],
            include_ram=asked["include_ram"],
            by=by,
        ),
    ),
    "clone": Verb(
        Clone,
        lambda vm, asked, by: actions.clone_vm(
            vm=vm,
            asked=CloneOf(
                name=asked["clone_name"],
                linked=asked["linked"],
                node=asked["node"],
                storage=asked["storage"],
                start_on_create=asked["start_on_create"],
                is_protected=asked.get("protected", False),
                **hardware_asked(asked),
            ),
            by=by,
        )[1],
    ),
    "migrate": Verb(
        Migrate, lambda vm, asked, by: actions.migrate_vm(vm=vm, node=asked["node"], by=by)
    ),
    "template": Verb(Nothing, lambda vm, asked, by: actions.convert_vm(vm=vm, by=by)),
}


class ActionName(serializers.Serializer[Any]):
    """Which verb; its own serializer checks the rest."""

    action = serializers.ChoiceField(choices=sorted(VERBS))
