"""What can be chosen when a simulator starts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

VERSIONS = ("7.4", "8.4", "9.0")
DEFAULT_TOKEN_ID = "root@pam!izvor"  # noqa: S105 (an identifier)
DEFAULT_TOKEN_SECRET = "00000000-0000-4000-8000-000000000001"  # noqa: S105 (of a simulator)
DEFAULT_PASSWORD = "simulator"  # noqa: S105 (of a simulator)


@dataclass(slots=True)
class Options:
    """`speed` divides every simulated duration; `vms` counts guests besides the templates.

    `cycle_s` is how far `/cluster/resources` may lag, in simulated seconds; `clock` is the moment
    at which it starts (unix seconds), None for the real one.
    """

    host: str = "127.0.0.1"
    port: int = 8006
    nodes: tuple[str, ...] = ("pve", "pve2", "pve3")
    vms: int = 8
    speed: float = 1.0
    seed: int = 1
    clock: float | None = None
    state_dir: Path | None = None
    tokens: dict[str, str] = field(default_factory=lambda: {DEFAULT_TOKEN_ID: DEFAULT_TOKEN_SECRET})
    password: str = DEFAULT_PASSWORD
    pve_version: str = "8.4"
    cluster_name: str = "demo"
    is_lagging: bool = True
    cycle_s: float = 10.0
    has_fault_api: bool = False
    has_endpoint_per_node: bool = False
    world: str = "demo"

    def clock_offset_s(self) -> float:
        """How far a clock that starts now is off the real one."""
        return 0.0 if self.clock is None else self.clock - time.time()
