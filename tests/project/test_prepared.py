"""Prepared querysets give what the querysets themselves give."""

from __future__ import annotations

import pytest

from accounts.prepared import Prepared, Slot
from accounts.sql import rows
from templates_app.models import Template
from vms.models import Size

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
        "SELECT generic_plans + custom_plans FROM pg_prepared_statements "
        'WHERE statement LIKE \'%%FROM "vms_size"%%disk_gib" >=%%\''
    )
    assert kept == [(len(two),)]


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
    names = Prepared(lambda: Size.objects.filter(name=Slot("name")).values_list("name", "cores"))
    hostile = "tiny-one' OR name <> '"
    assert names(name=hostile) == []
    assert names(name="small") == list(
        Size.objects.filter(name="small").values_list("name", "cores")
    )
