"""Writing creations down: nodes, quotas and rows in one transaction, for all who ask at once.

Nodes are chosen by one request at a time, and the statements of one serve many. So who comes while
another writes waits for it, and then writes for all who wait. Where one of them cannot be, each is
written by itself: nobody hears of what stands against another.
"""

from __future__ import annotations

import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from threading import Event, Lock

from django.db import InterfaceError, OperationalError, connection, transaction
from psycopg.errors import PipelineAborted

from accounts.actors import Actor
from accounts.models import Project
from accounts.prepared import Insert
from accounts.sql import after_commit, in_one_go
from operations import idempotency, lanes
from operations.bodies import ask_task_bodies
from operations.enqueue import ask_keys, new_operation, write_down
from operations.models import EXCLUSIVE, Operation
from vms import creation, preflight
from vms.bodies import ask_bodies
from vms.creation import Draft
from vms.models import VirtualMachine
from vms.placement import LANE_KINDS, Capacity, choose_alone
from vms.quota import Headroom

# VMs: whose request is first waits for the writing of the last.
MOST_TOGETHER = 100

Made = list[tuple[VirtualMachine, Operation]]
_INSERT = Insert(VirtualMachine)


@dataclass(eq=False)
class Asked:
    """One request: its drafts, and what became of it."""

    drafts: list[Draft]
    by: Actor
    at_least: int
    batch: str | None
    # Whose Idempotency-Key and request id its operations bear, whoever writes them down.
    context: Context = field(default_factory=copy_context)
    made: Made | None = None
    error: Exception | None = None
    is_alone: bool = False
    # Its turn to write has come, or it is settled.
    called: Event = field(default_factory=Event)

    @property
    def first(self) -> VirtualMachine:
        return self.drafts[0].vm

    @property
    def is_settled(self) -> bool:
        return self.made is not None or self.error is not None or self.is_alone


def accept(drafts: list[Draft], by: Actor, *, at_least: int = 1, is_batch: bool = False) -> Made:
    """Make what fits, all of it or none. Raises Refusal."""
    batch = str(uuid.uuid4()) if is_batch else None
    asked = Asked(drafts, by, at_least, batch)
    preflight.give_vmids(asked.first.cluster, [draft.vm for draft in drafts])
    if not connection.in_atomic_block:
        _lines[asked.first.cluster.pk, drafts[0].kind].settle(asked)
    if asked.error is not None:
        raise asked.error
    return asked.made if asked.made is not None else write([asked])[0]


class Line:
    """Those of this process who ask for one kind of operation on one cluster.

    Who comes while nobody writes begins. Else the first of those who wait does, as soon as the ones
    before are committed.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: deque[Asked] = deque()
        self._writer: Asked | None = None

    def settle(self, asked: Asked) -> None:
        """Returns when it is written down, by whoever's turn it was, or is to be alone."""
        with self._lock:
            self._waiting.append(asked)
            if self._writer is None:
                self._call(asked)
        asked.called.wait()
        if not asked.is_settled:
            self._write(self._next())

    def _call(self, writer: Asked | None) -> None:
        self._writer = writer
        if writer is not None:
            writer.called.set()

    def _next(self) -> list[Asked]:
        """Those who are written next; at least one, who writes."""
        together, vms = [self._waiting.popleft()], 0
        while self._waiting:
            vms += len(together[-1].drafts)
            if vms + len(self._waiting[0].drafts) > MOST_TOGETHER:
                break
            together.append(self._waiting.popleft())
        return together

    def _write(self, together: list[Asked]) -> None:
        """All of them, or each is told to be alone, or what went wrong with the database."""

        def is_committed(made: list[Made]) -> None:
            for asked, its in zip(together, made, strict=True):
                asked.made = its
            self._pass_on(together)

        try:
            write(together, is_committed)
        except Exception as error:  # noqa: BLE001 (each raises its own)
            if len(together) == 1 or is_connection_lost(error):
                for asked in together:
                    asked.error = error
        finally:
            for asked in together:
                asked.is_alone = not asked.is_settled
            self._pass_on(together)

    def _pass_on(self, together: list[Asked]) -> None:
        """The next begins, and these go on."""
        with self._lock:
            if self._writer is together[0]:
                self._call(next(iter(self._waiting), None))
        for asked in together:
            asked.called.set()


_lines: dict[tuple[int, str], Line] = defaultdict(Line)


def is_connection_lost(error: Exception) -> bool:
    """Then nobody knows whether it was committed. A deadlock, a full disk and the like are the word
    of Postgres that it was not: these have a code, of another class than 08 and 57P."""
    cause = error.__cause__
    if isinstance(cause, PipelineAborted):
        # What stands behind an error of another kind, in one go.
        return False
    code = getattr(cause, "sqlstate", None) or "08"
    return isinstance(error, OperationalError | InterfaceError) and code.startswith(("08", "57P"))


def write(
    together: list[Asked], is_committed: Callable[[list[Made]], None] | None = None
) -> list[Made]:
    """In one transaction; once it is over, `is_committed` is called first, with what was made.
    Raises Refusal, of any of them."""
    cluster = together[0].first.cluster
    made: list[Made] = []
    with preflight.vmids_are_free(), transaction.atomic(), in_one_go():
        if is_committed:
            after_commit(is_committed, made)
        headrooms = ask_headrooms([asked.first.project for asked in together])
        choose_alone(cluster)
        keys = ask_keys(sum(len(asked.drafts) for asked in together))
        filled = lanes.ask_filled(cluster.pk, *LANE_KINDS)
        capacity = Capacity(cluster)
        room = {pk: answer() for pk, answer in headrooms.items()}
        key = iter(keys())
        for asked in together:
            again = [draft.again() for draft in asked.drafts]
            headroom = room[asked.first.project_id]
            fitting = creation.fit(again, capacity, headroom, at_least=asked.at_least)
            made.append(asked.context.run(with_operations, fitting, asked, key))
        written = _INSERT.ask([vm for its in made for vm, _ in its])
        bodies = ask_bodies([vm.uuid for its in made for vm, _ in its])
        operations = [operation for its in made for _, operation in its]
        write_down(operations, subjects_are_new=True, filled=filled())
        for asked, its in zip(together, made, strict=True):
            asked.context.run(idempotency.note, [operation for _, operation in its])
        tasks = ask_task_bodies(operations)
        written()
        shown = bodies()
        for operation, body in zip(operations, tasks(), strict=True):
            operation.body, operation.subject_body = body, shown[str(operation.subject)]
    return made


def ask_headrooms(projects: list[Project | None]) -> dict[int | None, Callable[[], Headroom]]:
    """By project, as `Headroom.ask`. Their quotas are locked in one order, so that two who write do
    not wait for each other."""
    by_pk = {project.pk if project else None: project for project in projects}
    return {pk: Headroom.ask(by_pk[pk]) for pk in sorted(by_pk, key=lambda pk: pk or 0)}


def with_operations(drafts: list[Draft], asked: Asked, keys: Iterator[int]) -> Made:
    """The VMs, unsaved, with their operations, which their rows name from their first moment."""
    made = []
    for draft in drafts:
        vm = draft.vm
        operation = new_operation(
            draft.kind,
            cluster=vm.cluster,
            by=asked.by,
            wants=[(vm.claim, EXCLUSIVE), *draft.source_claims],
            subject=vm.uuid,
            label=str(vm),
            project_id=vm.project_id,
            params=draft.params | ({"batch": asked.batch} if asked.batch else {}),
            secrets=draft.secrets,
        )
        operation.pk = next(keys)
        vm.doing, vm.task = operation.kind, operation.uuid
        made.append((vm, operation))
    return made
