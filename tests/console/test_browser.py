"""The console's page in a real browser, from a web process of its own to the simulator over TLS."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, ConsoleMessage, Page

from events.models import Event
from pve_simulator import screen
from tests.browser import (
    BACKGROUND,
    FOREGROUND,
    chromium,
    colours,
    lit_pixels,
    needs_browser,
    wait_for_lit_pixels,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), *needs_browser]

HEAD = ("web-01 (VM 100)", "state: running", "")
LOOKS = list(itertools.product(("light", "dark"), ((1200, 800), (400, 700))))
UNTOUCHED = lit_pixels(*HEAD, "_")


def opened(browser: Browser, url: str, complaints: list[str], **look: Any) -> Page:
    """A page of its own; what the browser complains of is kept."""

    def note(said: ConsoleMessage) -> None:
        if said.type == "error":
            complaints.append(said.text)

    page = browser.new_context(**look).new_page()
    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    return page


def shown(page: Page, state: str) -> None:
    page.wait_for_selector(f"body[data-state={state}]")


def test_a_person_sees_types_and_leaves(web_process, mint, sim, tmp_path: Path):
    web = web_process()
    tickets = [mint() for _ in range(5)]
    complaints: list[str] = []
    with chromium() as browser:
        size = {"width": 1200, "height": 800}
        page = opened(browser, f"{web.origin}/console#{tickets[0]}", complaints, viewport=size)
        wait_for_lit_pixels(page, UNTOUCHED)
        assert (page.title(), page.text_content("#status")) == ("web-01 · Izvor", "Connected")
        assert urlsplit(page.url).fragment == "", "the ticket does not stay in the address"
        found = colours(page)
        assert (found["width"], found["height"]) == (screen.WIDTH, screen.HEIGHT)
        assert set(found["counts"]) == {FOREGROUND, BACKGROUND}

        for key in ("l", "s", "Enter", "4", "2"):
            page.keyboard.press(key)
        sim.wait_for(lambda s: s.consoles.typed.get(100) == "ls\n42", what="the keys")
        wait_for_lit_pixels(page, lit_pixels(*HEAD, "ls", "42_"))

        # It fits the window, large and small, and keeps its shape.
        for width, height in ((1200, 800), (400, 700)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_function(
                "([width, height]) => { const box = document.querySelector('canvas')"
                ".getBoundingClientRect(); return box.width > 0.9 * width && box.width <= width"
                " && box.bottom <= height && Math.abs(box.width / box.height - 16 / 9) < 0.02; }",
                arg=[width, height],
            )
        assert page.evaluate("document.documentElement.scrollWidth") == 400

        keys: list[int] = []
        sim.change(lambda s: note_keys(s, keys))
        page.click("#keys")
        wait_until(lambda: keys == [0xFFE3, 0xFFE9, 0xFFFF], f"Ctrl-Alt-Del, not {keys}")

        for (scheme, (width, height)), ticket in zip(LOOKS, tickets[1:], strict=True):
            view = {"width": width, "height": height}
            other = opened(
                browser,
                f"{web.origin}/console#{ticket}",
                complaints,
                viewport=view,
                color_scheme=scheme,
            )
            wait_for_lit_pixels(other, lit_pixels(*HEAD, "ls", "42_"))
            other.screenshot(path=tmp_path / f"console-{scheme}-{width}.png")
        assert complaints == [], "nothing that the policy forbids, and no error"

        used = opened(browser, f"{web.origin}/console#{tickets[0]}", complaints)
        shown(used, "ended")
        assert "opens nothing any more" in (used.text_content("#notice h2") or "")
        assert "used already, or has expired" in (used.text_content("#notice p") or "")
    assert all(file.stat().st_size > 1000 for file in tmp_path.glob("*.png"))
    assert len(list(tmp_path.glob("*.png"))) == 4
    wait_until(lambda: Event.objects.filter(kind="console.closed").count() == 5)
    wait_until(lambda: not any(task.is_running for task in sim.tasks("vncproxy")))


def note_keys(sim: Any, keys: list[int]) -> None:
    """Keep which keys go down, besides typing them."""
    typed: Callable[[int, int], None] = sim.consoles.type_key

    def note(vmid: int, key: int) -> None:
        keys.append(key)
        typed(vmid, key)

    sim.consoles.type_key = note


def test_each_end_is_said(web_process, mint, sim):
    web = web_process()
    first, second = mint(), mint()
    complaints: list[str] = []
    with chromium() as browser:
        page = opened(browser, f"{web.origin}/console#{first}", complaints)
        shown(page, "connected")
        sim.change(lambda s: setattr(s.world.guests[100], "is_running", False))
        shown(page, "ended")
        assert page.text_content("#notice h2") == "The console was closed"
        said = page.text_content("#notice p")
        assert said == "The VM was stopped or moved. Open a new one from the API or the admin."

        page = opened(browser, f"{web.origin}/console#{second}", complaints)
        shown(page, "ended")
        assert page.text_content("#notice h2") == "The VM shows no console now"
        assert "is stopped; its console needs it to be running" in str(
            page.text_content("#notice p")
        )

        for address in ("/console", "/console#", "/console#<script>"):
            page = opened(browser, f"{web.origin}{address}", complaints)
            shown(page, "ended")
            assert page.text_content("#notice h2") == "This address opens nothing"
    assert not [said for said in complaints if "policy" in said.lower()], complaints


def test_an_operator_opens_it_from_the_admin(web_process, vm, sim, tmp_path: Path):
    User.objects.create_superuser("ana", password="a long password")
    web = web_process()
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        page = context.new_page()
        page.goto(f"{web.origin}/admin/vms/virtualmachine/{vm.pk}/change/")
        page.fill("input[name=username]", "ana")
        page.fill("input[name=password]", "a long password")
        page.press("input[name=password]", "Enter")
        page.wait_for_selector("text=Console")
        page.screenshot(path=tmp_path / "admin.png")
        with context.expect_page() as new:
            page.click("button:has-text('Console')")
        console = new.value
        wait_for_lit_pixels(console, UNTOUCHED)
        assert console.url == f"{web.origin}/console"
    assert Event.objects.get(kind="console.minted").actor == "admin:ana"
