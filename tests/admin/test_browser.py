"""The admin in a real browser: nothing that its own policy forbids, and pages that stay true."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User
from django.db import connection
from playwright.sync_api import Page

from accounts.models import Project
from clusters.models import Cluster
from operations.models import Operation
from tests.admin.conftest import PASSWORD
from tests.admin.shapes import page as address_of
from tests.browser import chromium, needs_browser
from tests.conftest import run_until
from vms import actions
from vms.models import VirtualMachine

pytestmark = [pytest.mark.django_db(transaction=True), *needs_browser]


@pytest.fixture
def ana(project: Project) -> User:
    return User.objects.create_superuser("ana", password=PASSWORD)


@contextmanager
def logged_in(origin: str, complaints: list[str], **look: object) -> Iterator[Page]:
    """What the browser complains of, such as a breach of the policy, is kept."""
    with chromium() as browser:
        page = browser.new_context(base_url=origin, **look).new_page()  # type: ignore[arg-type]
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type == "error" else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/admin/login/")
        page.fill("[name=username]", "ana")
        page.fill("[name=password]", PASSWORD)
        page.press("[name=password]", "Enter")
        page.wait_for_url("**/admin/")
        yield page


@pytest.mark.parametrize("width", [1280, 400])
def test_no_page_breaks_its_policy_or_its_width(ana, web_process, vm, cluster, operator, width):
    task = actions.stop_vm(vm=vm, force=True, timeout_s=60, by=operator)
    addresses = [
        "/admin/",
        "/admin/vms/virtualmachine/",
        address_of(VirtualMachine, "change", vm.pk),
        "/admin/operations/operation/",
        address_of(Operation, "change", task.pk),
        "/admin/clusters/cluster/",
        address_of(Cluster, "change", cluster.pk),
        "/admin/vms/size/",
        "/admin/templates_app/template/",
        "/admin/templates_app/template/build/",
        "/admin/operations/lane/",
        "/admin/events/event/",
        "/admin/accounts/project/",
    ]
    complaints: list[str] = []
    web = web_process()
    look = {"viewport": {"width": width, "height": 800}, "color_scheme": "dark"}
    with logged_in(web.origin, complaints, **look) as page:
        for address in addresses:
            page.goto(address)
            page.wait_for_load_state("networkidle")
            over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert over <= 0, address
            # Alpine has run: without its evaluation the theme stays hidden, and in light colours.
            assert page.evaluate("document.documentElement.classList.contains('dark')"), address
        assert complaints == []
        # And the policy holds: a script that somebody got into a page does not run.
        page.evaluate(
            "() => { const s = document.createElement('script');"
            " s.textContent = 'window.broken = 1'; document.body.append(s); }"
        )
        assert page.evaluate("window.broken") is None
        assert any("Content Security Policy" in said for said in complaints)


def test_the_apis_page_is_dark_where_the_readers_system_is(ana, web_process):
    ground = "getComputedStyle(document.{}).backgroundColor"
    complaints: list[str] = []
    with logged_in(web_process().origin, complaints, color_scheme="dark") as page:
        page.goto("/api/docs")
        page.wait_for_selector(".opblock-summary-description")
        dark = page.evaluate(ground.format("body"))
        assert dark == page.evaluate(ground.format("documentElement"))
        page.emulate_media(color_scheme="light")
        page.wait_for_selector("html:not(.dark-mode)")
        assert dark != page.evaluate(ground.format("body"))
    assert complaints == []


def test_a_press_a_task_and_its_end_are_seen_without_a_reload(ana, web_process, vm):
    web = web_process()
    complaints: list[str] = []
    with logged_in(web.origin, complaints) as page:
        page.goto("/admin/vms/virtualmachine/?q=web-01")
        page.click(".iz-more")
        page.click(".iz-menu:popover-open >> text=Stop")
        page.wait_for_selector("text=is under way")
        page.wait_for_selector("a.iz-badge:has-text('stopping')")
        listed = page
        opened = page.context.new_page()
        opened.goto(address_of(VirtualMachine, "change", vm.pk))
        opened.wait_for_selector("[data-part=state] >> text=stopping")
        opened.evaluate("window.sameDocument = true")
        assert opened.locator("[data-part=buttons] >> text=Start").count() == 0
        finish_in_a_thread()
        opened.wait_for_selector("[data-part=state] >> text=stopped", timeout=15_000)
        opened.wait_for_selector("[data-part=buttons] >> text=Start")
        assert opened.evaluate("window.sameDocument") is True
        listed.wait_for_selector(".iz-badge:has-text('stopped')", timeout=15_000)
        # The charts came by themselves, and change on a press.
        opened.wait_for_selector("#usage svg")
        opened.click("#usage >> text=week")
        opened.wait_for_selector("#usage [aria-current]:has-text('week')")
    assert complaints == []


def finish_in_a_thread() -> None:
    """A worker's job; Django refuses queries in a thread where Playwright's loop runs."""

    def work() -> None:
        run_until(lambda: Operation.objects.get(), lambda task: task.is_ended)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
