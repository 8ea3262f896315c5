"""Clusters in the admin: testing a connection, and which rights Izvor needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from clusters.connect import forget_clients
from clusters.models import Cluster
from clusters.privileges import NEEDS, lacking, needs_of
from clusters.probe import probe
from inventory import cycle
from pve_simulator.access import Access, AclEntry, Token, User
from pve_simulator.testing import SimulatorThread
from tests.admin.shapes import page, press, said, text_of
from tests.vms.cast import MAKING, VERBS, ask_for, finish, vm_for
from vms import console
from vms.models import VirtualMachine
from vms.refresh import refresh_vm

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[2]
USER, SECRET = "izvor@pve", "11111111-2222-4333-8444-555555555555"
ALL = {need.privilege for need in needs_of(8)}
# One of each room; the others need no other rights.
QUICK = {"create_vm", "take_snapshot", "migrate_vm", "delete_vm"}
KINDS = [*MAKING, "clone_vm", "delete_template", *VERBS]


def grant(sim: SimulatorThread, privileges: set[str], path: str = "/") -> None:
    """What the manual has an operator type: a user, a role of these privileges, a token."""

    def give(live: Any) -> None:
        live.access.users[USER] = User(USER, tokens={"api": Token(SECRET, privsep=False)})
        live.access.roles["Izvor"] = frozenset(privileges)
        live.access.acl = [entry for entry in live.access.acl if entry.ugid != USER]
        live.access.acl.append(AclEntry(path, "user", USER, "Izvor"))

    sim.change(give)


@pytest.fixture
def narrow(cluster: Cluster, sim: SimulatorThread) -> Cluster:
    """The cluster, used by a token that has the rights which the manual names and no other."""
    grant(sim, ALL)
    cluster.token_id, cluster.secret = f"{USER}!api", SECRET
    cluster.save()
    forget_clients()
    cycle.look_at(cluster)
    assert cluster.is_online, cluster.error
    return cluster


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k in QUICK else [pytest.mark.slow]) for k in KINDS]
)
def test_the_rights_that_the_manual_names_are_enough(narrow, sim, operator, kind):
    _, operation = ask_for(kind, vm_for(kind, sim, operator), operator)
    finish(operation)


@pytest.mark.slow
def test_each_right_that_the_manual_names_is_asked_for(narrow, sim, operator, monkeypatch):
    """None is there for nothing: Proxmox asks for each one while all kinds are done once."""
    asked: set[str] = set()

    def noting(check: Any) -> Any:
        def note(access: Access, who: Any, path: str, *privileges: str, **how: Any) -> Any:
            asked.update(privileges)
            return check(access, who, path, *privileges, **how)

        return note

    for name in ("may", "require"):
        monkeypatch.setattr(Access, name, noting(getattr(Access, name)))
    for kind in KINDS:
        _, operation = ask_for(kind, vm_for(kind, sim, operator), operator)
        finish(operation)
    vm = VirtualMachine.objects.get(vmid=100)
    refresh_vm(vm)
    console.ask_for_screen(vm)
    assert asked >= ALL, ALL - asked


def test_the_manual_names_them_all():
    manual = (ROOT / "docs" / "proxmox.md").read_text()
    role = re.search(r'--privs "([^"]*)"', manual)
    assert role is not None
    assert set(role.group(1).split()) == ALL
    for need in NEEDS:
        assert need.privilege in manual, need.privilege
    named = {need.privilege for need in NEEDS if need.only_for}
    sentence = manual.split("Some are for\none thing only")[1].split("\n\n")[0]
    assert set(re.findall(r"`((?:VM|Datastore|Sys)\.\w+)`", sentence)) == named


@pytest.mark.parametrize("major", [7, 8, 9])
def test_each_version_has_its_own(major):
    names = {need.privilege for need in needs_of(major)}
    assert ("SDN.Use" in names) == (major >= 8)
    assert ("VM.Monitor" in names) == (major < 9)
    assert ("VM.GuestAgent.Audit" in names) == (major >= 9)


def test_a_right_on_one_place_is_not_the_right_on_all():
    granted = {"/": frozenset(ALL - {"Datastore.AllocateSpace"})}
    (lack,) = lacking(granted | {"/storage/ceph": frozenset(ALL)}, 8)
    assert str(lack).startswith("Datastore.AllocateSpace only on /storage/ceph, not on /storage")
    (lack,) = lacking(granted, 8)
    assert "is missing: to give VMs disks" in str(lack)


@pytest.mark.parametrize("privilege", sorted(ALL))
def test_a_missing_right_is_named_with_its_path(narrow, sim, privilege):
    grant(sim, ALL - {privilege})
    need = next(need for need in NEEDS if need.privilege == privilege)
    told = [found.text for found in probe(narrow) if not found.is_good]
    assert len(told) == 1, told
    assert f"{USER}!api lacks a privilege: {privilege} on {need.path} is missing" in told[0]


def test_a_ca_that_comes_from_the_environment_keeps_its_lines(browser, cluster):
    cluster.is_from_environment, cluster.ca_pem = True, "-----BEGIN <b>-----\nMII\nC==\n"
    cluster.save()
    text = text_of(browser.get(page(Cluster, "change", cluster.pk)))
    assert '<pre class="iz-pre">-----BEGIN &lt;b&gt;-----\nMII\nC==\n</pre>' in text


def test_a_test_of_the_connection_says_what_is_there(browser, narrow, sim):
    (text,) = said(press(browser, "test", narrow))
    assert "answers: Proxmox VE 8.4" in text
    assert "It is &#x27;demo&#x27; with the nodes pve, pve2, pve3, as before." in text
    assert f"has all {len(ALL)} privileges that Izvor needs" in text
    assert 'class="iz-no"' not in text
    assert SECRET not in text_of(browser.get("/admin/"))


def test_it_says_what_is_not_there(browser, narrow, sim):
    Cluster.objects.update(endpoints=["https://127.0.0.1:9", *narrow.endpoints])
    narrow.refresh_from_db()
    (text,) = said(press(browser, "test", narrow))
    assert "https://127.0.0.1:9 cannot be reached" in text
    assert "answers: Proxmox VE" in text
    narrow.secret = "00000000-0000-4000-8000-000000000000"
    narrow.endpoints = narrow.endpoints[1:]
    narrow.save()
    text = said(press(browser, "test", narrow))[-1]
    assert "refuses izvor@pve!api" in text
    Cluster.objects.update(pve_name="other", sealed_secret=Cluster.objects.get().sealed_secret)
    narrow.refresh_from_db()
    narrow.secret = SECRET
    narrow.save()
    assert (
        "It is another cluster than the one whose rows these are"
        in said(press(browser, "test", narrow))[-1]
    )


def test_it_changes_nothing(browser, narrow):
    before = Cluster.objects.values().get()
    press(browser, "test", narrow)
    assert Cluster.objects.values().get() == before
