"""The client and the simulator, two readings of the same Proxmox, over TLS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxmox import (
    Client,
    Conflict,
    Forbidden,
    Locked,
    NotFound,
    OutcomeUnknown,
    Password,
    ProxmoxError,
    Tls,
    Token,
    Unauthorized,
    Unreachable,
    Upid,
    classify_task_error,
)
from proxmox.results import TaskStatus
from pve_simulator.testing import SimulatorThread
from tests.waiting import wait_until

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKIxqweRN9HJs+WsxR/4j0dQKxpJb8IuNlmmyoYvnf8U izvor@test"


@pytest.fixture(scope="module")
def sim() -> Iterator[SimulatorThread]:
    with SimulatorThread(speed=100, seed=1) as simulator:
        yield simulator


@pytest.fixture
def client(sim: SimulatorThread) -> Iterator[Client]:
    token = Token.parse(sim.token_id, sim.token_secret)
    client = Client([sim.url], token, tls=Tls.from_ca_file(sim.ca_file))
    yield client
    client.close()
    sim.clear_faults()


def ended(client: Client, upid: Upid | None) -> TaskStatus:
    assert upid is not None
    wait_until(lambda: not client.task_status(upid).is_running)
    return client.task_status(upid)


def done(client: Client, upid: Upid | None) -> None:
    status = ended(client, upid)
    assert status.is_ok, status.exit_status


def test_one_vm_from_its_template_to_its_deletion(client: Client):
    assert client.vmid_is_free(500)
    done(
        client,
        client.clone_guest("pve", 9000, newid=500, name="my-server", description="a=b\nmark"),
    )
    assert not client.vmid_is_free(500)
    client.update_config(
        "pve",
        500,
        changes={
            "cores": 2,
            "memory": 2048,
            "ciuser": "admin",
            "ipconfig0": "ip=dhcp",
            "sshkeys": KEY,
            "tags": "web;production",
            "onboot": True,
        },
    )
    config = client.guest_config("pve", 500)
    disk = config.boot_disk
    assert disk is not None
    upid = client.resize_disk("pve", 500, disk.key, "40G", digest=config.digest)
    done(client, upid)
    config = client.guest_config("pve", 500)
    assert (config.name, config.description) == ("my-server", "a=b\nmark")
    assert (config.cores, config.memory_mib, config.ciuser) == (2, 2048, "admin")
    assert config.sshkeys == KEY
    assert config.tags == {"web", "production"}
    assert config.boot_disk is not None
    assert config.boot_disk.size_bytes == 40 * 1024**3

    done(client, client.start("pve", 500))
    wait_until(lambda: client.guest_status("pve", 500).is_running)
    done(client, client.suspend("pve", 500))
    assert client.guest_status("pve", 500).is_paused
    done(client, client.resume("pve", 500))
    done(client, client.take_snapshot("pve", 500, "clean", description="before"))
    assert {each.name for each in client.snapshots("pve", 500)} == {"clean", "current"}
    done(client, client.delete_snapshot("pve", 500, "clean"))
    done(client, client.stop("pve", 500))
    assert client.guest_status("pve", 500).is_stopped
    done(client, client.delete_guest("pve", 500))
    with pytest.raises(NotFound) as raised:
        client.guest_status("pve", 500)
    assert raised.value.what == "guest"


def test_a_failure_in_the_task_is_said(client: Client):
    status = ended(client, client.start("pve", 9000))
    error = classify_task_error(status.exit_status or "", client.task_log(status.upid))
    assert isinstance(error, Conflict)
    assert error.reason == "template"


def test_a_task_is_seen_in_the_lists(client: Client):
    upid = client.stop("pve3", 102)
    ended(client, upid)
    listed = {entry.upid: entry for entry in client.tasks("pve3", source="all", vmid=102)}
    assert upid in listed
    assert listed[upid].is_ok
    assert upid not in {entry.upid for entry in client.tasks("pve3")}


def test_a_running_guests_addresses(client: Client):
    done(client, client.start("pve", 106))
    wait_until(lambda: bool(addresses(client, "pve", 106)))
    mac = client.guest_config("pve", 106).nics[0].mac
    by_mac = {each.mac: each for each in client.agent_interfaces("pve", 106)}
    assert mac is not None
    assert by_mac[mac.lower()].addresses
    done(client, client.stop("pve", 106))


def addresses(client: Client, node: str, vmid: int) -> tuple[object, ...]:
    """None until the agent is up."""
    try:
        return client.agent_interfaces(node, vmid)
    except Conflict as error:
        if error.reason != "agent_not_running":
            raise
        return ()


def test_every_question_is_understood(client: Client):
    """All that the demo cluster can be asked, once."""
    resources = client.resources()
    assert {node.name for node in client.nodes()} == {node.name for node in resources.nodes}
    assert client.cluster_status().is_quorate
    assert client.ca_fingerprint("pve") == client.ca_fingerprint("pve2")
    for node in resources.nodes:
        assert client.node_status(node.name).memory_bytes == node.memory_bytes
        assert {guest.vmid for guest in client.guests(node.name)} == {
            guest.vmid for guest in resources.guests if guest.node == node.name
        }
        assert {bridge.name for bridge in client.networks(node.name)} >= {"vmbr0", "vmbr1"}
        for storage in client.storages(node.name):
            assert isinstance(client.storage_content(node.name, storage.storage), tuple)
        assert isinstance(client.rrddata(node.name), tuple)
    for guest in resources.guests:
        status = client.guest_status(guest.node, guest.vmid)
        assert (status.vmid, status.is_template) == (guest.vmid, guest.is_template)
        assert client.guest_config(guest.node, guest.vmid, current=True).name == guest.name
        assert client.guest_pending(guest.node, guest.vmid)
        assert client.guest_feature(guest.node, guest.vmid, "copy").is_available
        assert isinstance(client.rrddata(guest.node, guest.vmid, "day"), tuple)


def clone(client: Client, name: str) -> Upid | ProxmoxError:
    """The task of a clone to 501, or what was said instead."""
    try:
        upid = client.clone_guest("pve", 9000, newid=501, name=name)
    except ProxmoxError as error:
        return error
    assert upid is not None
    return upid


def outcome(client: Client, answer: Upid | ProxmoxError) -> ProxmoxError | None:
    if isinstance(answer, ProxmoxError):
        return answer
    status = ended(client, answer)
    return None if status.is_ok else classify_task_error(status.exit_status or "")


def test_two_clones_to_one_number_have_one_winner(client: Client):
    answers = {name: clone(client, name) for name in ("first", "second")}
    outcomes = {name: outcome(client, answer) for name, answer in answers.items()}
    (winner,) = [name for name, error in outcomes.items() if error is None]
    (loser,) = [name for name, error in outcomes.items() if error is not None]
    # On a busy machine the loser may not even get the target's lock: it asks again.
    while isinstance(error := outcomes[loser], Locked):
        outcomes[loser] = outcome(client, clone(client, loser))
    assert isinstance(error, Conflict)
    assert (error.reason, error.what) == ("exists", "guest")
    assert client.guest_config("pve", 501).name == winner
    done(client, client.delete_guest("pve", 501))


def test_a_dropped_answer_is_looked_for_in_the_task_list(sim: SimulatorThread, client: Client):
    before = {entry.upid for entry in client.tasks("pve2", source="all", vmid=101)}
    sim.add_fault("drop_after_effect", method="POST", path="/status/stop$")
    with pytest.raises(OutcomeUnknown):
        client.stop("pve2", 101)
    started = {
        entry.upid
        for entry in client.tasks("pve2", source="all", vmid=101, typefilter="qmstop")
        if entry.upid not in before
    }
    assert len(started) == 1
    done(client, started.pop())
    done(client, client.start("pve2", 101))


@pytest.mark.parametrize("kind", ["drop_before_effect", "drop_after_effect", "cut"])
def test_a_question_survives(sim: SimulatorThread, client: Client, kind: str):
    sim.add_fault(kind, method="GET", path="^/version$")
    assert client.version().major == 8


@pytest.mark.parametrize("status", [595, 596, 599])
def test_the_proxy_layer_is_read(sim: SimulatorThread, client: Client, status: int):
    sim.add_fault("status", path="^/version$", status=status, text="Connection refused", count=2)
    with pytest.raises(Unreachable) as raised:
        client.version()
    assert raised.value.status == status


def test_a_password_works_as_well(sim: SimulatorThread):
    client = Client(
        [sim.url], Password("root@pam", sim.password), tls=Tls.from_ca_file(sim.ca_file)
    )
    try:
        assert client.version().major == 8
        done(client, client.stop("pve3", 102))
    finally:
        client.close()


def test_wrong_credentials_are_refused(sim: SimulatorThread):
    for credentials in (Token.parse(sim.token_id, "wrong"), Password("root@pam", "wrong")):
        client = Client([sim.url], credentials, tls=Tls.from_ca_file(sim.ca_file))
        with pytest.raises(Unauthorized):
            client.version()
        client.close()


def test_what_only_root_may_is_forbidden(client: Client):
    with pytest.raises(Forbidden, match="only root can set 'args' config"):
        client.update_config("pve", 100, changes={"args": "-S"})
