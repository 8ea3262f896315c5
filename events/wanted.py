"""Which events somebody wants, of those that they may see: for rows and for single events alike."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from accounts.actors import Actor
from accounts.rest import as_uuid, as_vmid
from events.kinds import is_known
from events.models import Event


@dataclass(frozen=True)
class Wanted:
    """`project_id` is what may be seen (None: everything), the rest what was asked for."""

    project_id: int | None = None
    types: tuple[str, ...] = ()
    vm: str = ""

    @classmethod
    def from_request(cls, params: QueryDict, actor: Actor) -> Wanted:
        """From `?type=` (repeated, or with commas) and `?vm=`. Raises ValidationError."""
        vm = params.get("vm", "")
        if vm and as_vmid(vm) is None:
            vm = str(_uuid(vm))
        words = [word for value in params.getlist("type") for word in value.split(",")]
        try:
            types = types_of(word.strip() for word in words if word.strip())
        except ValidationError as error:
            raise ValidationError({"type": error.detail}) from None
        return cls(
            # A token always has a project; 0 is nobody's.
            project_id=None if actor.is_operator else actor.project.pk if actor.project else 0,
            types=types,
            vm=vm,
        )

    def as_q(self) -> Q:
        found = Q() if self.project_id is None else Q(project=self.project_id)
        if self.vm:
            found &= subject_filter(self.vm)
        if self.types and "*" not in self.types:
            of_type = Q(kind__in=[kind for kind in self.types if not kind.endswith(".*")])
            for pattern in self.types:
                if pattern.endswith(".*"):
                    of_type |= Q(kind__startswith=pattern[:-1])
            found &= of_type
        return found

    def matches(self, event: Event) -> bool:
        return (
            (self.project_id is None or event.project_id == self.project_id)
            and (not self.types or is_of_type(event.kind, self.types))
            and (not self.vm or is_about(event, self.vm))
        )


def types_of(words: Iterable[str]) -> tuple[str, ...]:
    """Kinds and patterns, each once. Raises ValidationError for one that fits no event there is."""
    types = sorted(set(words))
    unknown = [pattern for pattern in types if not is_known(pattern)]
    if unknown:
        raise ValidationError([f"There is no event {pattern[:60]!r}." for pattern in unknown])
    return tuple(types)


def is_of_type(kind: str, types: Iterable[str]) -> bool:
    noun = kind.partition(".")[0]
    return any(pattern in {kind, "*", f"{noun}.*"} for pattern in types)


def subject_filter(wanted: str) -> Q:
    """A VM by uuid, or by the VMID that its events' and tasks' label begins with."""
    return about(subject_values(wanted))


def subject_values(wanted: str) -> dict[str, Any]:
    """What `about` compares with. Raises ValidationError for what is neither."""
    if as_vmid(wanted) is not None:
        return {"label": wanted, "label_begin": f"{wanted} "}
    return {"subject": _uuid(wanted)}


def about(values: Mapping[str, Any]) -> Q:
    """By the values of `subject_values`, or slots for them."""
    if "subject" in values:
        return Q(subject=values["subject"])
    begins = Q(subject_label__startswith=values["label_begin"])
    return Q(subject_label=values["label"]) | begins


def is_about(event: Event, wanted: str) -> bool:
    """What `subject_filter` finds, of one event."""
    if as_vmid(wanted) is not None:
        return event.subject_label.partition(" ")[0] == wanted
    return str(event.subject) == wanted


def _uuid(wanted: str) -> uuid.UUID:
    found = as_uuid(wanted)
    if found is None:
        raise ValidationError({"vm": ["Give a VMID or a uuid."]})
    return found
