"""How Proxmox answers: calls and their durations, counted by this process."""

from prometheus_client import Histogram

# From a read of a few ms to a call's total deadline.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)

CALL_SECONDS = Histogram(
    "izvor_proxmox_call_seconds",
    "Duration of calls to Proxmox by method, path template and outcome (ok, or the error's class).",
    ["method", "path", "outcome"],
    buckets=BUCKETS,
)


def note_call(method: str, template: str, outcome: str, took_s: float) -> None:
    """For the client's `on_call`. The template's braces keep node names and VMIDs out."""
    CALL_SECONDS.labels(method, template, outcome).observe(took_s)
