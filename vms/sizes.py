"""Verbs on sizes, each one transaction with an event. All raise `operations.refusals`."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction

from accounts.actors import Actor
from events.models import record_event
from operations import idempotency
from operations.refusals import Conflict
from vms.models import Size


@transaction.atomic
def create_size(*, values: dict[str, Any], by: Actor) -> Size:
    size = Size(**values)
    _save(size, force_insert=True)
    record_event("size.created", by=by, label=size.name)
    idempotency.note_done(201, f"size:{size.name}")
    return size


@transaction.atomic
def change_size(size: Size, *, changes: dict[str, Any], by: Actor) -> None:
    """VMs that have this size keep the numbers they were made with."""
    before = {name: getattr(size, name) for name in changes}
    for name, value in changes.items():
        setattr(size, name, value)
    _save(size, update_fields=list(changes))
    told = {name: [before[name], value] for name, value in changes.items()}
    record_event("size.changed", by=by, label=size.name, changes=told)
    idempotency.note_done(200, f"size:{size.name}")


@transaction.atomic
def delete_size(size: Size, *, by: Actor) -> None:
    """VMs that have it keep the numbers, and are of no size from then on."""
    record_event("size.deleted", by=by, label=size.name)
    size.delete()
    idempotency.note_done(204)


def _save(size: Size, **how: Any) -> None:
    try:
        with transaction.atomic():
            size.save(**how)
    except IntegrityError:
        raise Conflict("size_exists", f"There is a size {size.name} already.") from None
