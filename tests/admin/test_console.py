"""The console's button: a press that opens a tab, for those who may act."""

from __future__ import annotations

import pytest
from django.urls import reverse

from events.models import Event
from tests.admin.conftest import log_in
from tests.admin.shapes import page, text_of
from vms import console
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)


def console_of(vm: VirtualMachine) -> str:
    return reverse("admin:vms_virtualmachine_console", args=[vm.pk])


def test_the_console_opens_by_a_button_and_not_by_a_link(browser, cluster):
    vm = VirtualMachine.objects.get(vmid=100)
    for address in (page(VirtualMachine, "change", vm.pk), page(VirtualMachine, "changelist")):
        text = text_of(browser.get(address))
        assert f'formaction="{console_of(vm)}" formtarget="_blank"' in text
        assert '<form id="verbs" method="post" rel="noopener">' in text
    assert browser.get(console_of(vm)).status_code == 405
    assert not Event.objects.filter(kind="console.minted").exists()
    answer = browser.post(console_of(vm))
    assert answer.status_code == 302
    address, _, ticket = answer["Location"].partition("#")
    assert address == "/console"
    visit = console.redeem(ticket)
    assert (visit.vm, visit.by.name) == (vm, "admin:ana")
    assert Event.objects.get(kind="console.minted").actor == "admin:ana"


def test_another_sites_form_opens_none(cluster, browser):
    strict = log_in("ana", enforce_csrf_checks=True)
    answer = strict.post(console_of(VirtualMachine.objects.get(vmid=100)))
    assert answer.status_code == 403
    assert not Event.objects.filter(kind="console.minted").exists()


def test_a_stopped_vm_has_no_button_and_says_why_there_is_no_console(browser, cluster):
    vm = VirtualMachine.objects.filter(power="stopped").first()
    assert vm is not None
    assert console_of(vm) not in text_of(browser.get(page(VirtualMachine, "change", vm.pk)))
    answer = browser.post(console_of(vm), follow=True)
    assert "its console needs it to be running" in answer.content.decode()


def test_operators_get_one_and_viewers_do_not(operators_browser, viewers_browser, cluster):
    vm = VirtualMachine.objects.get(vmid=100)
    assert operators_browser.post(console_of(vm)).status_code == 302
    address = page(VirtualMachine, "change", vm.pk)
    assert console_of(vm) not in text_of(viewers_browser.get(address))
    assert viewers_browser.post(console_of(vm)).status_code == 403
