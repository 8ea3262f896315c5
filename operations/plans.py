"""What a plan is made of. Plans register by kind; the engine knows no plan by name.

A step looks, then acts: `look` says whether the wanted state is there, `act` asks for it once.
A Proxmox task's OK never ends a step, only `look` does.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

from accounts.actors import Actor
from operations.models import Operation
from operations.refusals import Unavailable
from proxmox import Client, ProxmoxError, Upid


@dataclass(frozen=True)
class Done:
    """The wanted state is there."""


@dataclass(frozen=True)
class Act:
    """It is not there: `missing` completes the sentence "Proxmox reported success, but …"."""

    missing: str


@dataclass(frozen=True)
class Wait:
    """Somebody else is at it; look again after `check_s` seconds."""

    reason: str
    check_s: float = 1.0


Verdict = Done | Act | Wait


class StepFailed(Exception):
    """A step cannot succeed. `code` is stable, the message is for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class UnknownHere(Unavailable):
    """Newer code has accepted it: a deploy is under way, or was taken back."""

    def __init__(self, what: str) -> None:
        super().__init__("other_version", f"This version of Izvor knows no {what}.")


class Cancel(Enum):
    """What a cancel does while the step's Proxmox task runs."""

    ABORT = "abort"
    FINISH_THEN_UNDO = "finish_then_undo"
    NOT_CANCELABLE = "not_cancelable"


@dataclass
class Job:
    """An operation in a worker's hands; plans extend it with what their steps work on."""

    operation: Operation
    client: Client
    # Set by the engine before each act: no call may outlive the moment when another worker
    # would assume its answer lost.
    call_ends: float = field(default=float("inf"))
    # Set by the engine: changes the operation's row as long as the lease is ours, and raises
    # LeaseLost then. Nothing else writes to it.
    write: Callable[..., None] = field(init=False, repr=False)

    @property
    def params(self) -> dict[str, Any]:
        return self.operation.params  # type: ignore[no-any-return]

    @property
    def notes(self) -> dict[str, Any]:
        """Facts for later steps; stored with every write of the engine."""
        return self.operation.notes  # type: ignore[no-any-return]

    def call_s(self) -> float:
        """What is left of this call's total deadline, in seconds."""
        return max(0.001, self.call_ends - time.monotonic())

    def forget_observations(self) -> None:
        """Something was changed: what was read before may be untrue."""


J = TypeVar("J", bound=Job)


class Step(ABC, Generic[J]):
    """One change in Proxmox."""

    name: ClassVar[str]
    # How long it may wait for locks and other people's work before it gives up.
    patience_s: ClassVar[float] = 900
    # How long after Proxmox's OK the wanted state may take to show.
    settle_s: ClassVar[float] = 60
    # Its effect cannot be seen afterwards, so it is never sent twice.
    is_at_most_once: ClassVar[bool] = False
    cancel: ClassVar[Cancel] = Cancel.FINISH_THEN_UNDO
    # How often a task that failed for a passing reason is tried again.
    max_attempts: ClassVar[int] = 5

    def is_needed(self, job: J) -> bool:
        """False skips the step."""
        return True

    @abstractmethod
    def look(self, job: J) -> Verdict:
        """Is the wanted state there? Raises StepFailed when it can never be."""

    @abstractmethod
    def act(self, job: J) -> Upid | None:
        """Ask Proxmox for it, with `timeout_s=job.call_s()`. None: done at once."""

    def prepare(self, job: J) -> Wait | None:
        """Called while nothing was asked for yet, before anything else; Wait: not now."""
        return None

    def lanes(self, params: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
        """Lanes to stand in before `act`, (key, default limit), from the operation's parameters:
        for its first step it stands there from the moment it is accepted."""
        return ()

    def find_task(self, job: J) -> list[str]:
        """UPIDs of this step's kind on this VM now; only steps `is_at_most_once` need it."""
        return []

    def on_refused(self, job: J, error: ProxmoxError) -> Verdict | None:
        """A last word on an error that would fail the step; None lets it fail."""
        return None

    def record(self, job: J) -> None:
        """Write to our own rows what `look` has just seen, in the step's transaction.

        Proxmox is not asked again there: only what this turn has read already.
        """


@dataclass(frozen=True)
class Plan(Generic[J]):
    """The steps of one kind of operation, in order, and how to undo what they made."""

    kind: str
    title: str
    open: Callable[[Operation, Client], J]
    steps: tuple[Step[J], ...]
    undo: tuple[Step[J], ...] = ()
    # Called in the transaction in which operations take their claims, and in the one that ends one
    # (with the state it ends in), so that the subject's own row always tells the same.
    on_claim: Callable[[Sequence[Operation]], None] = lambda operations: None
    on_end: Callable[[Operation, str], None] = lambda operation, state: None
    # Called before a failed operation is tried again, in that transaction: makes the subject ready
    # and gives the parameters. Raises Refusal where it cannot be, or not by whom asks: much can
    # have changed hands since the operation was accepted.
    on_retry: Callable[[Operation, Actor], dict[str, Any]] = lambda operation, by: operation.params

    @property
    def names(self) -> list[str]:
        return [step.name for step in (*self.steps, *self.undo)]

    def check_knows(self, planned: Iterable[str]) -> None:
        """Raises UnknownHere for an operation that newer code has accepted with more steps: to go
        on without them would leave out what was promised."""
        unknown = sorted(set(planned) - set(self.names))
        if unknown:
            raise UnknownHere(f"{self.kind} with step {unknown[0]}")

    def find(self, name: str) -> Step[J]:
        for step in (*self.steps, *self.undo):
            if step.name == name:
                return step
        raise UnknownHere(f"step {name} of {self.kind}")

    def cancel_of(self, step: Step[J]) -> Cancel:
        """What a cancel does there; where nothing can be undone, finishing is all that is left."""
        if step.cancel is Cancel.FINISH_THEN_UNDO and not self.undo:
            return Cancel.NOT_CANCELABLE
        return step.cancel

    def line(self, *, is_undoing: bool) -> tuple[Step[J], ...]:
        return self.undo if is_undoing else self.steps

    def after(self, step: Step[J], *, is_undoing: bool) -> Step[J] | None:
        line = self.line(is_undoing=is_undoing)
        place = line.index(step) + 1
        return line[place] if place < len(line) else None


_plans: dict[str, Plan[Any]] = {}


def register(plan: Plan[Any]) -> None:
    if plan.kind in _plans:
        raise ValueError(f"{plan.kind} is registered twice")
    if len(set(plan.names)) != len(plan.names):
        raise ValueError(f"{plan.kind} has two steps of one name")
    _plans[plan.kind] = plan


def plan_for(kind: str) -> Plan[Any]:
    """Raises UnknownHere."""
    if kind not in _plans:
        raise UnknownHere(kind)
    return _plans[kind]


def all_plans() -> list[Plan[Any]]:
    return [_plans[kind] for kind in sorted(_plans)]
