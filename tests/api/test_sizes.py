"""Sizes: operators make, change and remove them; VMs keep what they have."""

from __future__ import annotations

import pytest

from events.models import Event
from tests.api.shapes import Caller, fields_of, problem_of
from vms.models import Size, VirtualMachine

pytestmark = pytest.mark.django_db

API = "/api/v1/sizes"
NEW = {"name": "tiny", "cores": 1, "memory": 256, "disk_size": 2, "description": "for tests"}


@pytest.fixture
def calls(api) -> Caller:
    return Caller(api)


def test_a_size_is_made_changed_and_removed(calls):
    made = calls.post(API, NEW)
    assert (made.status_code, made.json()) == (201, NEW)
    assert calls.get(made["Location"]).json() == NEW
    changed = calls.ask("PATCH", f"{API}/tiny", {"memory": 512})
    assert changed.json() == {**NEW, "memory": 512}
    assert calls.delete(f"{API}/tiny").status_code == 204
    problem_of(calls.get(f"{API}/tiny"), 404, "size_not_found")
    kinds = Event.objects.order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["size.created", "size.changed", "size.deleted"]


def test_a_vm_of_a_removed_size_keeps_its_hardware(calls, cluster):
    vm = cluster.vms.get(vmid=100)
    VirtualMachine.objects.filter(pk=vm.pk).update(size=Size.objects.get(name="small"), cores=7)
    assert calls.delete(f"{API}/small").status_code == 204
    vm.refresh_from_db()
    assert (vm.size, vm.cores) == (None, 7)


def test_a_repeated_creation_with_one_key_makes_one(calls):
    first = calls.post(API, NEW, Idempotency_Key="one")
    again = calls.post(API, NEW, Idempotency_Key="one")
    assert (again.status_code, again.json()) == (201, first.json())
    assert Size.objects.filter(name="tiny").count() == 1
    problem_of(calls.post(API, NEW), 409, "size_exists")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Tiny"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"cores": 0}, "cores"),
        ({"cores": "1"}, "cores"),
        ({"memory": 1}, "memory"),
        ({"disk_size": 10_241}, "disk_size"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_sizes_name_the_field(changes, field, calls, project):
    assert fields_of(problem_of(calls.post(API, {**NEW, **changes}), 400)) == [field]
    assert not Size.objects.filter(cores=1, memory_mib=256, disk_gib=2).exists()


def test_a_change_without_a_field_says_so(calls, project):
    problem_of(calls.ask("PATCH", f"{API}/small", {}), 400)
