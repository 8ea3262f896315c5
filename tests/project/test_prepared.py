"""Prepared querysets give what querysets themselves give, and inserts write what Django writes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import (
    DataError,
    Error,
    IntegrityError,
    NotSupportedError,
    close_old_connections,
    connection,
    transaction,
)
from django.db.models import F

from accounts.prepared import Insert, Prepared, Slot, UpdateEach
from accounts.sql import ask, execute, in_one_go, rows
from izvor_project.api.problems import sort_out
from templates_app.models import Template
from tests.threads import at_once
from tests.waiting import wait_until
from vms.models import Size, VirtualMachine

pytestmark = pytest.mark.django_db


@pytest.fixture
def two() -> list[Size]:
    """Sizes of ours, whoever else has made some."""
    return Size.objects.bulk_create(
        [
            Size(name="tiny-one", cores=1, memory_mib=64, disk_gib=1),
            Size(name="huge-one", cores=64, memory_mib=65536, disk_gib=100),
        ]
    )


def test_each_call_brings_its_own_values(two, django_assert_num_queries):
    made = []

    def make():
        made.append(1)
        return Size.objects.filter(name=Slot("name"), cores__gte=Slot("cores"))

    sizes = Prepared(make)
    for size in two:
        with django_assert_num_queries(1):
            (found,) = sizes(name=size.name, cores=size.cores)
        assert found == size
        assert found.memory_mib == size.memory_mib
        assert not found._state.adding
        assert sizes(name=size.name, cores=size.cores + 1) == []
    assert made == [1]


def test_postgres_keeps_its_plan(two):
    sizes = Prepared(lambda: Size.objects.filter(name=Slot("name"), disk_gib__gte=Slot("disk")))
    for size in two:
        assert sizes(name=size.name, disk=1) == [size]
    kept = rows(
        "SELECT generic_plans, custom_plans FROM pg_prepared_statements "
        'WHERE statement LIKE \'%%FROM "vms_size"%%disk_gib" >=%%\''
    )
    assert kept == [(len(two), 0)]


def test_who_is_stopped_in_a_transaction_holds_up_nobody_for_long(two):
    assert rows("SHOW idle_in_transaction_session_timeout") == [("1min",)]


@pytest.mark.django_db(transaction=True)
def test_who_was_stopped_for_longer_hears_that_the_database_was_away():
    ((pid,),) = rows("SELECT pg_backend_pid()")
    lives = "SELECT FROM pg_stat_activity WHERE pid = %s"

    def wait_for_its_end() -> None:
        wait_until(lambda: not rows(lives, [pid]), "the end of the connection")

    @transaction.atomic
    def stop() -> None:
        execute("SET LOCAL idle_in_transaction_session_timeout = '10ms'")
        assert at_once(wait_for_its_end) == [None]
        rows("SELECT 1")

    with pytest.raises(Error) as raised:
        stop()
    assert sort_out(raised.value)[:2] == (503, "database_unavailable")


@pytest.mark.django_db(transaction=True)
def test_a_connection_whose_statements_a_migration_has_changed_is_given_up():
    def asked() -> list[Any]:
        return rows("SELECT name FROM changed", prepare=True)

    execute("CREATE TABLE changed (name varchar(5))")
    try:
        assert asked() == []
        at_once(lambda: execute("ALTER TABLE changed ALTER name TYPE varchar(9)"))
        with pytest.raises(NotSupportedError, match="cached plan"):
            asked()
        # Else the pool would hand it to the next.
        assert connection.connection.closed
        close_old_connections()
        assert asked() == []
    finally:
        connection.close()
        execute("DROP TABLE changed")


def test_related_rows_come_with_it(cluster, django_assert_num_queries):
    asked = Template.objects.select_related("cluster", "copy_of").order_by("vmid")
    prepared = Prepared(lambda: asked.filter(cluster=Slot("cluster")))
    with django_assert_num_queries(1):
        found = prepared(cluster=cluster.pk)
        assert {template.cluster for template in found} == {cluster}
        assert [template.copy_of for template in found] == [None] * len(found)
    assert found == list(asked)


def test_a_call_without_a_value_is_an_error():
    with pytest.raises(KeyError, match="name"):
        Prepared(lambda: Size.objects.filter(name=Slot("name")))()


def test_values_stay_values(two):
    named = Prepared(lambda: Size.objects.filter(name=Slot("name")))
    assert named(name="tiny-one' OR name <> '") == []
    assert named(name="tiny-one") == [two[0]]


def test_it_makes_models_and_nothing_else():
    with pytest.raises(AssertionError, match="models"):
        Prepared(lambda: Size.objects.values_list("name"))()


def test_columns_that_postgres_reckons_come_with_it(two):
    doubled = Prepared(
        lambda: Size.objects.filter(name=Slot("name")).annotate(twice=F("cores") * 2).only("name")
    )
    (found,) = doubled(name="huge-one")
    assert found.twice == 128
    assert found.get_deferred_fields() >= {"cores", "disk_gib"}


def columns_of(vm: VirtualMachine) -> dict[str, Any]:
    return dict(VirtualMachine.objects.values().get(pk=vm.pk))


def new_vm(cluster, vmid: int, **more: Any) -> VirtualMachine:
    return VirtualMachine(
        cluster=cluster,
        name='quo\'ted \\ "one" %s',
        tags=["a,b", '"', ""],
        metadata={"key": "väl\u2028ue", "empty": ""},
        cloud_init={"ssh_keys": ["ssh-ed25519 A"], "user": None},
        cores=2,
        memory_mib=512,
        disk_bytes=2**40,
        ip_address="192.0.2.1",
        doing="create_vm",
        task=UUID(int=vmid),
        vmid=vmid,
        synced_at=datetime(2026, 11, 27, 12, 30, 0, 123456, tzinfo=UTC),
        **more,
    )


def test_rows_are_inserted_as_django_does_it(cluster):
    ours, theirs = new_vm(cluster, vmid=7001), new_vm(cluster, vmid=7002)
    Insert(VirtualMachine)([ours])
    theirs.save()
    assert ours.pk
    assert not ours._state.adding
    assert ours.status == "creating"
    written, expected = (columns_of(one) for one in (ours, theirs))
    own = {"id", "uuid", "vmid", "task", "created_at", "updated_at"}
    assert written | dict.fromkeys(own) == expected | dict.fromkeys(own)
    assert written["created_at"] == ours.created_at


def test_many_rows_are_one_statement(cluster, django_assert_num_queries):
    vms = [new_vm(cluster, vmid=vmid) for vmid in range(7000, 7100)]
    with django_assert_num_queries(1):
        Insert(VirtualMachine)(vms)
    found = VirtualMachine.objects.in_bulk([vm.pk for vm in vms])
    assert [found[vm.pk].vmid for vm in vms] == [vm.vmid for vm in vms]
    assert [found[vm.pk].uuid for vm in vms] == [vm.uuid for vm in vms]


def test_what_collides_is_written_by_none(cluster):
    vms = [new_vm(cluster, vmid=7000), new_vm(cluster, vmid=7000)]
    with pytest.raises(IntegrityError, match="one_living_vm_per_vmid"), transaction.atomic():
        Insert(VirtualMachine)(vms)
    assert not VirtualMachine.objects.filter(vmid=7000).exists()


def test_what_is_too_long_is_refused_and_not_cut(cluster):
    with pytest.raises(DataError, match="too long"), transaction.atomic():
        Insert(VirtualMachine)([new_vm(cluster, vmid=7000, node="n" * 64)])


def test_who_has_a_key_keeps_it_and_the_others_get_the_next(cluster):
    insert = Insert(VirtualMachine)
    first, second = insert.ask_keys(2)()
    vms = [new_vm(cluster, vmid=7000 + n) for n in range(3)]
    vms[0].pk, vms[2].pk = second, first
    insert(vms)
    assert vms[1].pk > second > first
    assert [(vm.pk, vm.vmid) for vm in VirtualMachine.objects.filter(pk__gte=first)] == [
        (first, 7002),
        (second, 7000),
        (vms[1].pk, 7001),
    ]


def test_each_row_is_written_as_it_is_and_no_other_column(cluster):
    vms = [new_vm(cluster, vmid=7000 + n) for n in range(3)]
    Insert(VirtualMachine)(vms)
    old_name, seen = vms[0].name, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    for vm, tags, missing in zip(vms, (["a", 'b"{,}'], [], ["c"]), (seen, None, seen), strict=True):
        vm.tags, vm.missing_since, vm.memory_mib = tags, missing, 100 * vm.vmid
        vm.metadata, vm.is_ha_managed, vm.name = {"of": vm.vmid}, True, "not written"
    names = ["tags", "missing_since", "memory_mib", "metadata", "is_ha_managed"]
    UpdateEach(VirtualMachine)(vms[:2], names)
    for vm, there in zip(
        vms, VirtualMachine.objects.filter(vmid__gte=7000).order_by("vmid"), strict=True
    ):
        is_written = vm is not vms[2]
        assert [getattr(there, name) == getattr(vm, name) for name in names] == [is_written] * 5
        assert there.name == old_name


def test_in_one_go_answers_are_read_when_they_are_asked_for(cluster):
    ours, count = new_vm(cluster, vmid=7000), VirtualMachine.objects.filter(cluster=cluster).count()
    with transaction.atomic(), in_one_go():
        written = Insert(VirtualMachine).ask([ours])
        counted = ask("SELECT count(*) FROM vms_virtualmachine WHERE cluster_id = %s", [cluster.pk])
        assert ours.pk is None
        assert counted() == [(count + 1,)]
        written()
    assert VirtualMachine.objects.get(pk=ours.pk).uuid == ours.uuid


@pytest.mark.parametrize("reads", [True, False])
def test_in_one_go_who_reads_next_hears_what_went_wrong_or_the_end_does(reads, cluster):
    reached = []

    def collide() -> None:
        with transaction.atomic(), in_one_go():
            Insert(VirtualMachine).ask([new_vm(cluster, vmid=7000), new_vm(cluster, vmid=7000)])
            if reads:
                rows("SELECT 1")
            reached.append("the end")

    with pytest.raises(IntegrityError, match="one_living_vm_per_vmid"):
        collide()
    assert reached == ([] if reads else ["the end"])
    assert not VirtualMachine.objects.filter(vmid=7000).exists()


def test_postgres_reckons_a_column(cluster):
    insert = Insert(VirtualMachine, name=("int", "repeat('x', name)"))
    vms = [new_vm(cluster, vmid=7000), new_vm(cluster, vmid=7001)]
    insert(vms, name=[3, 5])
    assert [columns_of(vm)["name"] for vm in vms] == ["xxx", "xxxxx"]
