"""As many queries for two thousand VMs and tasks as for two hundred."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from operations.models import Operation
from tests.admin.shapes import many_tasks, many_vms, page, text_of
from vms.models import Size, VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

# A page's most, so that nobody adds one unnoticed; the first three are session, person, rights.
MOST = {
    "/admin/": 20,
    "/admin/live/": 18,
    "/admin/vms/virtualmachine/": 14,
    "/admin/vms/virtualmachine/?q=many-7&status=running&node=pve&tag=team-3": 14,
    "the page of a VM": 14,
    "/admin/operations/operation/": 10,
    "/admin/events/event/": 10,
    "/admin/vms/size/": 10,
}


def count(browser, address: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        text_of(browser.get(address))
    return len(queries)


def counts(browser, address_of_vm: str) -> dict[str, int]:
    # Django keeps content types and unfold its settings after the first time.
    for name in MOST:
        browser.get(address_of_vm if name == "the page of a VM" else name)
    return {
        name: count(browser, address_of_vm if name == "the page of a VM" else name) for name in MOST
    }


def test_no_page_asks_more_when_there_is_more(operators_browser, cluster):
    size = Size.objects.get(name="small")
    vms = many_vms(cluster, 200, size=size)
    many_tasks(vms)
    address = page(VirtualMachine, "change", vms[0].pk)
    few = counts(operators_browser, address)
    many_tasks(many_vms(cluster, 1800, size=size))
    many_tasks([vms[0]] * 50)
    assert counts(operators_browser, address) == few
    assert {name: number for name, number in few.items() if number > MOST[name]} == {}


def test_a_task_list_counts_no_further_than_it_shows(operators_browser, cluster, monkeypatch):
    from accounts.admin_site import CappedPaginator

    monkeypatch.setattr(CappedPaginator, "most", 60)
    many_tasks(many_vms(cluster, 200))
    text = text_of(operators_browser.get("/admin/operations/operation/", {"p": "2"}))
    assert re.search(r"\s60\s+tasks", text)
    assert Operation.objects.count() == 200
