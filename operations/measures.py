"""How operations go: their steps' durations and their ends, counted by the process that saw them.

What waits and runs now is read from the rows instead, by whoever is asked (izvor_project/metrics).
"""

from __future__ import annotations

import datetime

from prometheus_client import Counter, Histogram

from accounts.sql import after_commit
from operations.models import Operation

STEP_SECONDS = Histogram(
    "izvor_operation_step_seconds",
    "From a step's beginning to its observed end, waiting included.",
    ["kind", "step"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
)
ENDS = Counter(
    "izvor_operation_ends",
    "Ended operations by kind, state and, of failed ones, error code.",
    ["kind", "state", "code"],
)


def note_step(operation: Operation, step: str, now: datetime.datetime) -> None:
    """Count the step once its end is committed."""
    if operation.step_started_at is not None:
        took_s = max(0.0, (now - operation.step_started_at).total_seconds())
        series = STEP_SECONDS.labels(operation.kind, step)
        after_commit(series.observe, took_s)


def note_end(operation: Operation, state: str) -> None:
    """Count the end once it is committed."""
    after_commit(ENDS.labels(operation.kind, state, operation.error_code).inc)
