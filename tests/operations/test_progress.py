"""How far a task is while Proxmox copies a disk."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from django.db.models.functions import Now
from structlog.testing import capture_logs

from clusters.models import Cluster
from operations import poller, progress
from operations.models import Operation
from operations.plans import plan_for
from proxmox import Upid
from pve_simulator import accidents
from tests.conftest import run_until
from tests.vms.cast import a_new_vm
from vms import actions

LONG_AGO = Now() - datetime.timedelta(minutes=1)


@pytest.fixture
def always(monkeypatch):
    """Each look of the poller reads."""
    monkeypatch.setattr(progress, "EVERY_S", 0.0)


@pytest.fixture
def cloning(cluster, sim, operator):
    """A creation whose full clone takes very long."""
    sim.cause(accidents.storage_speed, storage="ceph", mib_per_s=6.0)
    _, operation = actions.create_vm(asked=a_new_vm(linked=False), by=operator)
    row = Operation.objects.filter(pk=operation.pk)
    run_until(row.get, lambda found: found.upid)
    return row


def look(cluster: Cluster) -> None:
    Cluster.objects.filter(pk=cluster.pk).update(poll_lease_until=None)
    poller.poll_cluster(cluster.pk)


@pytest.mark.django_db(transaction=True)
def test_a_long_clone_moves_within_its_step(cluster, sim, cloning, always):
    cloning.update(submitted_at=LONG_AGO)
    share = 100 / len(plan_for("create_vm").steps)

    def looked() -> int:
        look(cluster)
        return int(cloning.get().progress)

    first = run_until(looked, lambda found: found > 0)
    assert first < share
    assert run_until(looked, lambda found: found > first) < share


@pytest.mark.django_db(transaction=True)
def test_a_short_one_is_not_asked_after(cluster, sim, cloning, always):
    look(cluster)
    assert not sim.calls_to("GET", "/log$")


@pytest.mark.django_db(transaction=True)
def test_of_many_a_few_are_read_and_seldom(cluster, sim, cloning, monkeypatch):
    cloning.update(submitted_at=LONG_AGO)
    read: list[str] = []

    def task_log(upid: Upid, **_: object) -> list[str]:
        read.append(str(upid))
        return []

    client: Any = SimpleNamespace(task_log=task_log)
    running = {cloning.get().upid: cloning.get().pk}
    progress._read_at.clear()
    for _ in range(3):
        progress.follow_copies(client, cluster.pk, "pve", running)
    assert len(read) == 1


@pytest.mark.django_db(transaction=True)
def test_a_log_that_cannot_be_read_disturbs_nothing(cluster, sim, cloning, always):
    cloning.update(submitted_at=LONG_AGO)
    sim.add_fault("status", path="/tasks/.*/log$", status=500, text="cannot read its log")
    with capture_logs() as said:
        look(cluster)
    assert [entry["event"] for entry in said] == ["log_unread"]
    assert (cloning.get().state, cloning.get().progress) == ("running", 0)


@pytest.mark.parametrize(
    ("lines", "percent"),
    [
        ([], 0.0),
        (["create full clone of drive scsi0"], 0.0),
        (["transferred 0.0 B of 3.0 GiB (0.00%)", "transferred 1.5 GiB of 3.0 GiB (50.00%)"], 50.0),
        (["drive-scsi0: transferred 9.8 MiB of 64.0 MiB (15.38%) in 0s", "another line"], 15.38),
        (["transferred 3.1 GiB of 3.0 GiB (103.00%)"], 100.0),
        (["space reduction due to 4K zero blocks 1.09%"], 0.0),
    ],
)
def test_the_last_line_that_says_it_counts(lines, percent):
    assert progress.percent_in(lines) == percent


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("before", "percent", "after"), [(0, 50, 6), (12, 50, 12)])
def test_it_never_goes_back(before, percent, after, cluster, sim, cloning):
    cloning.update(progress=before)
    progress.note(cloning.get(), percent)
    assert cloning.get().progress == after
