"""One line of the table: what was measured, against what, and whether the goal is met."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.site import Site


@dataclass
class Result:
    """`figures` are the rounds' values; `at_least` says on which side of `goal` they are good."""

    what: str
    floor: str
    figures: list[float]
    # None: a comparison without one.
    goal: float | None
    at_least: bool
    unit: str = "x"
    details: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def is_met(self) -> bool:
        if self.goal is None:
            return True
        return self.median >= self.goal if self.at_least else self.median <= self.goal


@dataclass(frozen=True)
class Row:
    """`measure` may give several results, where they come out of one run."""

    name: str
    measure: Callable[[Site], list[Result]]


ROWS: dict[str, Row] = {}


def row(name: str) -> Callable[[Callable[[Site], list[Result]]], Callable[[Site], list[Result]]]:
    """Registers a measurement under the name that `ARGS` picks it by."""

    def keep(measure: Callable[[Site], list[Result]]) -> Callable[[Site], list[Result]]:
        ROWS[name] = Row(name, measure)
        return measure

    return keep


def thirds(values: list[float]) -> list[list[float]]:
    """Of one long run, in its order: each sorted, and as good as a round."""
    third = len(values) // 3
    return [sorted(values[third * place : third * (place + 1)]) for place in range(3)]


def percentile(sorted_values: list[float], percent: int) -> float:
    return sorted_values[len(sorted_values) * percent // 100]


def in_turn(
    rounds: int, floor: Callable[[], float], figure: Callable[[], float]
) -> list[tuple[float, float]]:
    """Both, one after the other in each round, so that what else the machine does meets both."""
    floor(), figure()  # warm
    return [(floor(), figure()) for _ in range(rounds)]


def table(results: list[Result]) -> str:
    """As Markdown, which also reads well in a terminal."""
    lines = ["| what | against | median | spread | goal | met |", "|---|---|---|---|---|---|"]
    for one in results:
        goal = "–"
        if one.goal is not None:
            goal = f"{'≥' if one.at_least else '≤'} {one.goal:g} {one.unit}"
        details = "".join(f"; {name} {value:.4g}" for name, value in one.details.items())
        lines.append(
            f"| {one.what} | {one.floor}{details} | {one.median:.3g} {one.unit} "
            f"| {spread(one)} | {goal} | {verdict(one)} |"
        )
    return "\n".join(lines)


def spread(one: Result) -> str:
    if len(one.figures) == 1:
        return "one run"
    return f"{min(one.figures):.3g} to {max(one.figures):.3g}"


def verdict(one: Result) -> str:
    if one.goal is None:
        return "–"
    return "yes" if one.is_met else "**no**"
