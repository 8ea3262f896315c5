"""A real Celery worker is killed with SIGKILL in the middle of a clone, and another goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection

from operations.models import Operation
from pve_simulator import accidents
from tests.vms.cast import a_new_vm
from tests.waiting import wait_until
from vms import actions

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts workers with beat on the test's database and broker; ends them all."""
    database = urlsplit(os.environ["DATABASE_URL"])
    name = connection.settings_dict["NAME"]
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database._replace(path=f"/{name}").geturl(),
    }
    workers: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        number = len(workers)
        command = [sys.executable, "-m", "celery", "-A", "izvor_project", "worker", "--beat"]
        command += ["-s", str(tmp_path / f"beat-{number}"), "--pool", "threads", "-c", "4"]
        command += ["-n", f"test-{os.getpid()}-{number}@localhost"]
        with (tmp_path / f"worker-{number}.log").open("wb") as log:
            worker = subprocess.Popen(
                command, env=env, stdout=log, stderr=log, start_new_session=True
            )
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)


def test_a_worker_killed_in_a_clone_is_replaced_by_the_next(cluster, sim, operator, start_worker):
    before = len(sim.guests())
    sim.cause(accidents.storage_speed, storage="ceph", mib_per_s=20)
    vm, operation = actions.create_vm(asked=a_new_vm(linked=False), by=operator)
    first = start_worker()
    running = lambda: any(task.is_running for task in sim.tasks("qmclone"))  # noqa: E731
    wait_until(running, "the clone's beginning", 60)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(10)
    start_worker()
    wait_until(
        lambda: Operation.objects.get(pk=operation.pk).is_ended, "the creation by the next one", 90
    )
    operation.refresh_from_db()
    assert operation.state == "succeeded", operation.error
    assert len(sim.tasks("qmclone")) == 1
    assert len(sim.guests()) == before + 1
    assert sim.guest(vm.vmid).is_running
