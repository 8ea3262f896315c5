from __future__ import annotations

from collections.abc import Iterator

import pytest

from pve_simulator.testing import SimulatorThread
from tests.simulator.client import Api

SPEED = 25.0


@pytest.fixture
def sim() -> Iterator[SimulatorThread]:
    """The demo cluster, twenty-five times as fast as life."""
    with SimulatorThread(speed=SPEED, has_fault_api=True) as running:
        yield running


@pytest.fixture
def api(sim: SimulatorThread) -> Api:
    return Api(sim)
