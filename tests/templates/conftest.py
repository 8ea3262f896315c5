"""A web server with images beside the simulated cluster, and looks at the cluster's storages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from pve_simulator.world import Volume
from tests.images import ImageServer, serving


@pytest.fixture
def images() -> Iterator[ImageServer]:
    with serving() as server:
        yield server


@pytest.fixture
def files_on(sim: SimulatorThread) -> Callable[..., set[str]]:
    """Volume IDs of one kind, wherever they lie."""

    def found(content: str = "import") -> set[str]:
        known = sim.world.volumes.values()
        return {v.volid for volumes in known for v in volumes.values() if v.content == content}

    return found


@pytest.fixture
def put_image(sim: SimulatorThread) -> Callable[..., None]:
    """A cloud image (of a disk of 3 GiB) on a storage of these nodes."""

    def put(volid: str, *nodes: str) -> None:
        def on(live: Simulator) -> None:
            storage = live.world.storages[volid.partition(":")[0]]
            for node in nodes:
                live.world.volumes_of(storage, node)[volid] = Volume(
                    volid, "import", volid.rpartition(".")[2], 10**6, 10**6, 0, data=3 * 1024**3
                )

        sim.change(on)

    return put
