"""Workers of two versions, and clocks that differ or jump, on one database and one cluster."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.models import RUNNING, SUCCEEDED
from tests.operations.whole import MAKEUP, Site
from tests.stack import WORKERS, running_stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NEWER, OLDER = WORKERS
GIB = 1024**3
FAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), "")
MANY = 10


@pytest.fixture
def site() -> Iterator[Site]:
    with running_stack(makeup=MAKEUP) as stack:
        yield Site(stack)


def ended_by(site: Site, worker: str) -> list[str]:
    """Kinds of the operations that this worker has ended."""
    log = site.stack.parts[worker].log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if '"operation_ended"' in line]
    return [line["kind"] for line in lines]


def sizes_gib(site: Site, tasks: dict[str, str]) -> set[float]:
    guests = site.stack.proxmox("cluster/resources?type=vm")
    return {guest["maxdisk"] / GIB for guest in guests if guest["name"] in tasks}


@pytest.fixture
def with_an_older_worker(site: Site) -> Site:
    site.stack.change(OLDER, DJANGO_SETTINGS_MODULE="tests.operations.older")
    site.stack.restart(OLDER)
    return site


def test_an_older_worker_leaves_what_it_does_not_know_and_carries_the_rest(with_an_older_worker):
    site = with_an_older_worker
    tasks = site.create(MANY, disk_size=30)
    site.confirm(tasks)
    assert sizes_gib(site, tasks) == {30}
    assert ended_by(site, NEWER).count("create_vm") == MANY
    assert "create_vm" not in ended_by(site, OLDER)
    assert "left_to_the_newer_version" in site.stack.parts[OLDER].log.read_text()
    site.stack.parts[NEWER].stop()
    (name, *_) = tasks
    (vm,) = site.get(f"vms?name={name}")["vms"]
    stopped = site.post(f"vms/{vm['id']}/actions", {"action": "stop", "force": True})
    task = {name: stopped.json()["task_id"]}
    wait_until(lambda: site.states(task) == {SUCCEEDED: 1}, "the stop", 60)
    assert ended_by(site, OLDER) == ["stop_vm"]


def test_alone_an_older_worker_begins_nothing_that_it_could_not_finish(with_an_older_worker):
    site = with_an_older_worker
    site.stack.parts[NEWER].stop()
    tasks = site.create(2, disk_size=30)
    said = (
        "SELECT count(*) FROM operations_operation WHERE uuid = ANY(%s)"
        " AND waiting_for LIKE 'a worker of the newer version (%%grow_disk%%'"
    )
    wait_until(lambda: site.rows(said, list(tasks.values())) == [(2,)], "what they wait for", 60)
    assert not sizes_gib(site, tasks)
    site.stack.start(NEWER)
    site.confirm(tasks)
    assert sizes_gib(site, tasks) == {30}


def give_clock(site: Site, name: str, **how: str) -> None:
    """Start this part again with a clock of its own, but for what it measures durations by."""
    site.stack.change(name, LD_PRELOAD=FAKETIME, FAKETIME_DONT_FAKE_MONOTONIC="1", **how)
    site.stack.restart(name)


@pytest.mark.skipif(not FAKETIME, reason="the package faketime is not installed")
def test_clocks_that_are_minutes_apart_change_nothing(site: Site):
    """Beat and the database in the middle: each worker is ahead of, or behind, both of them."""
    for name, seconds in {"web": "+75", NEWER: "-200", OLDER: "+200"}.items():
        give_clock(site, name, FAKETIME=seconds)
    tasks = site.create(MANY)
    site.confirm(tasks)
    for worker in WORKERS:
        assert "proxmox_task_started" in site.stack.parts[worker].log.read_text()
    # Nothing waited for a moment that was another machine's: as told by the database's clock alone.
    ((longest_s,),) = site.rows(
        "SELECT extract(epoch FROM max(ended_at - started_at)) FROM operations_operation"
    )
    assert longest_s < 60


@pytest.mark.skipif(not FAKETIME, reason="the package faketime is not installed")
def test_clocks_that_jump_while_they_work_change_nothing(site: Site, tmp_path: Path):
    """An hour ahead while the first VMs are made, and then two hours back."""
    clock = tmp_path / "clock"

    def jump(seconds: str) -> None:
        new = clock.with_suffix(".new")
        new.write_text(seconds)
        new.replace(clock)

    def states() -> Counter[str]:
        return site.states(tasks)

    jump("+0")
    for name in ("web", *WORKERS):
        give_clock(site, name, FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1")
    tasks = site.create(MANY)
    wait_until(lambda: states()[RUNNING] > 0, "the first to begin", 30)
    jump("+3600")
    wait_until(lambda: states()[SUCCEEDED] > 0, "the first to end", 60)
    jump("-3600")
    assert states()[SUCCEEDED] < MANY, "the clocks jumped while there was work"
    site.confirm(tasks)
    told = site.stack.parts[NEWER].log.read_text() + site.stack.parts[OLDER].log.read_text()
    hours = {json.loads(line)["timestamp"][:13] for line in told.splitlines() if line[:1] == "{"}
    assert len(hours) >= 3, "the workers' own clocks jumped"
