"""`GET /vms/{id}/console`: who gets a ticket, for which VM, and what it opens."""

from __future__ import annotations

import datetime
import hashlib
import json
import re

import pytest
import redis
from django.conf import settings as django_settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.actors import MEMBER, VIEWER, Actor
from accounts.models import ApiToken
from events.models import Event
from operations.refusals import NotAllowed, NotFound
from tests.api.shapes import problem_of
from tests.vms.cast import a_new_vm
from vms import actions, console
from vms.models import ERROR, STOPPED, SUSPENDED, UNKNOWN, VirtualMachine

pytestmark = pytest.mark.django_db

API = "/api/v1"


def change(vmid: int, **values: object) -> VirtualMachine:
    VirtualMachine.objects.filter(vmid=vmid).update(**values)
    vm: VirtualMachine = VirtualMachine.objects.get(vmid=vmid)
    return vm


@pytest.fixture
def running(cluster, owned):
    """VM 100: it runs, and belongs to the default project."""
    return VirtualMachine.objects.get(vmid=owned["ours"])


# --- the answer ---


@pytest.mark.services
def test_the_answer_is_that_of_the_contract(running, callers):
    before = timezone.now()
    answer = callers["member"].get(f"{API}/vms/100/console", Host="localhost:8082")
    body = answer.json()
    assert answer.status_code == 200, body
    assert answer["Cache-Control"] == "no-store"
    ticket = body["ticket"]
    assert body == {
        "type": "vnc",
        "url": f"http://localhost:8082/console#{ticket}",
        "websocket_url": f"ws://localhost:8082/console/websocket?ticket={ticket}",
        "host": "localhost",
        "port": 8082,
        "ticket": ticket,
        "password": None,
        "expires_at": body["expires_at"],
    }
    assert re.fullmatch(r"[\w-]{43}", ticket)
    expires_at = parse_datetime(body["expires_at"])
    assert expires_at is not None
    a_minute = datetime.timedelta(seconds=60)
    assert before + a_minute <= expires_at <= timezone.now() + a_minute


def test_behind_a_proxy_that_speaks_tls_the_addresses_do_too(running, callers, settings):
    settings.ALLOWED_HOSTS = ["izvor.example.com"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://izvor.example.com"]
    body = callers["member"].get(f"{API}/vms/100/console", Host="izvor.example.com").json()
    assert body["url"].startswith("https://izvor.example.com/console#")
    assert body["websocket_url"].startswith("wss://izvor.example.com/console/websocket?")
    assert (body["host"], body["port"]) == ("izvor.example.com", 443)


def test_proxmox_is_not_asked(running, callers, sim):
    sim.forget_calls()
    assert callers["member"].get(f"{API}/vms/100/console").status_code == 200
    assert sim.calls == []


def test_it_is_described(client):
    schema = client.get("/api/schema", headers={"Accept": "application/json"}).json()
    described = schema["paths"]["/api/v1/vms/{id}/console"]["get"]["responses"]["200"]
    fields = described["content"]["application/json"]["schema"]["properties"]
    assert set(fields) == {
        "type",
        "url",
        "websocket_url",
        "host",
        "port",
        "ticket",
        "password",
        "expires_at",
    }


def test_a_parameter_that_does_not_exist_is_refused(running, callers):
    problem_of(callers["member"].get(f"{API}/vms/100/console?tyep=spice"), 400, "invalid")


# --- who ---


@pytest.mark.parametrize(
    ("who", "status", "code"),
    [
        ("anonymous", 401, "unauthorized"),
        ("viewer", 403, "not_allowed"),
        ("stranger", 404, "vm_not_found"),
    ],
)
def test_who_gets_none(who, status, code, running, callers):
    problem_of(callers[who].get(f"{API}/vms/100/console"), status, code)
    assert not Event.objects.filter(kind="console.minted").exists()


@pytest.mark.parametrize("who", ["member", "operator"])
def test_who_gets_one_is_written_down(who, running, callers):
    ticket = callers[who].get(f"{API}/vms/{running.uuid}/console").json()["ticket"]
    event = Event.objects.get(kind="console.minted")
    assert (event.actor, event.subject) == (f"token:test {who}", running.uuid)
    assert event.project_id == running.project_id
    assert ticket not in json.dumps(event.data)


# --- which VM ---


@pytest.mark.parametrize("power", [STOPPED, SUSPENDED])
def test_a_vm_that_does_not_run_has_no_console(power, cluster, callers, sim):
    vm = VirtualMachine.objects.filter(power=STOPPED).first()
    assert vm is not None
    if power == SUSPENDED:
        sim.change(lambda s: s.world.guests[vm.vmid].config.update(lock="suspended"))
    body = problem_of(callers["operator"].get(f"{API}/vms/{vm.vmid}/console"), 409, "wrong_state")
    assert power in body["detail"]
    sim.change(lambda s: s.world.guests[vm.vmid].config.pop("lock", None))


def test_a_vm_that_is_gone_from_its_cluster_has_none(cluster, callers, sim):
    vm = VirtualMachine.objects.filter(power=STOPPED).first()
    assert vm is not None
    vmid = vm.vmid
    guest = sim.change(lambda s: s.world.guests.pop(vmid))
    try:
        path = f"{API}/vms/{vm.uuid}"
        assert callers["operator"].get(f"{path}?refresh=true").json()["status"] == "unknown"
        body = problem_of(callers["operator"].get(f"{path}/console"), 409, "wrong_state")
        assert "no longer on its cluster" in body["detail"]
    finally:
        sim.change(lambda s: s.world.guests.update({vmid: guest}))


def test_one_that_was_started_a_moment_ago_has_one(running, callers):
    """The list lags ten seconds behind; before it is refused, the VM is asked."""
    change(100, power=STOPPED)
    assert callers["member"].get(f"{API}/vms/100/console").status_code == 200


def test_a_paused_or_unknown_or_locked_vm_has_one(running, callers):
    paused = VirtualMachine.objects.get(power="paused")
    assert callers["operator"].get(f"{API}/vms/{paused.vmid}/console").status_code == 200
    change(100, power=UNKNOWN, lock="backup")
    assert callers["member"].get(f"{API}/vms/100/console").status_code == 200


def test_a_vm_that_is_being_created_or_was_not_created_has_none(cluster, callers, operator):
    vm, _ = actions.create_vm(asked=a_new_vm(), by=operator)
    ask = lambda: callers["operator"].get(f"{API}/vms/{vm.uuid}/console")  # noqa: E731
    problem_of(ask(), 409, "wrong_state")
    VirtualMachine.objects.filter(pk=vm.pk).update(doing="", task=None, has_failed=True)
    vm.refresh_from_db()
    assert vm.status == ERROR
    problem_of(ask(), 409, "wrong_state")


def test_one_that_cannot_be_identified_has_none(running, callers, sim):
    change(100, smbios_uuid=None, is_ours=False)
    sim.add_fault("status", method="GET", path="/100/config$", status=595, count=10)
    problem_of(callers["member"].get(f"{API}/vms/100/console"), 503, "vm_unidentified")
    sim.clear_faults()
    assert callers["member"].get(f"{API}/vms/100/console").status_code == 200
    assert VirtualMachine.objects.get(vmid=100).smbios_uuid is not None


def test_a_cluster_that_is_switched_off_shows_nothing(running, callers, cluster):
    type(cluster).objects.update(is_enabled=False)
    problem_of(callers["member"].get(f"{API}/vms/100/console"), 503, "cluster_disabled")


# --- the ticket ---


def everything_kept() -> dict[bytes, tuple[bytes, int]]:
    """Every console ticket in Redis: its key, value and remaining milliseconds."""
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        keys = client.scan_iter(f"{django_settings.REDIS_PREFIX}:console:*")
        return {key: (client.get(key), client.pttl(key)) for key in keys}


@pytest.fixture
def none_kept():
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        for key in everything_kept():
            client.delete(key)


@pytest.mark.services
def test_only_a_digest_of_it_is_kept_and_for_a_minute(running, operator, none_kept):
    link = console.mint_link(vm=running, by=operator)
    ((key, (value, left_ms)),) = everything_kept().items()
    assert key.decode().endswith(hashlib.sha256(link.ticket.encode()).hexdigest())
    assert link.ticket.encode() not in key + value
    assert 0 < left_ms <= 60_000
    assert link.ticket not in repr(link)


def test_it_is_good_once(running, operator):
    link = console.mint_link(vm=running, by=operator)
    visit = console.redeem(link.ticket)
    assert (visit.vm, visit.by) == (running, operator)
    with pytest.raises(NotFound, match="used already, or has expired"):
        console.redeem(link.ticket)


def test_of_many_who_come_at_once_one_gets_in(running, operator, none_kept):
    """Redis takes it out and tells it in one go, whoever else asks."""
    link = console.mint_link(vm=running, by=operator)
    key = console._key(link.ticket)
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        pipe = client.pipeline(transaction=False)
        for _ in range(50):
            pipe.getdel(key)
        assert sum(kept is not None for kept in pipe.execute()) == 1


def test_it_expires(running, operator, settings):
    settings.CONSOLE = {**settings.CONSOLE, "ticket_s": 0.05}
    link = console.mint_link(vm=running, by=operator)
    ends = timezone.now() + datetime.timedelta(seconds=5)
    while everything_kept().get(console._key(link.ticket).encode()):
        assert timezone.now() < ends
    with pytest.raises(NotFound):
        console.redeem(link.ticket)


@pytest.mark.parametrize("lost", ["token", "role", "vm"])
def test_who_lost_the_right_meanwhile_gets_nothing(lost, running, project, neighbour):
    token, _ = ApiToken.objects.issue(name="brief", project=project, role=MEMBER)
    link = console.mint_link(vm=running, by=token.as_actor())
    if lost == "token":
        ApiToken.objects.filter(pk=token.pk).update(revoked_at=timezone.now())
    elif lost == "role":
        ApiToken.objects.filter(pk=token.pk).update(role=VIEWER)
    else:
        change(100, project=neighbour)
    with pytest.raises(NotFound):
        console.redeem(link.ticket)


def test_a_viewer_gets_none_whatever_way_they_ask(running, project):
    with pytest.raises(NotAllowed):
        console.mint_link(vm=running, by=Actor(name="v", role=VIEWER, project=project))


def test_without_redis_there_is_no_console(running, callers, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    problem_of(callers["member"].get(f"{API}/vms/100/console"), 503, "redis_unavailable")
    assert not Event.objects.filter(kind="console.minted").exists()
