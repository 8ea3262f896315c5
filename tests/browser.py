"""Debian's Chromium, headless, driven by Playwright. What it shows is real, and so is its keyboard.

Playwright's own loop runs while a browser is open, so that Django refuses queries meanwhile: look
into the database before or after.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from pve_simulator import screen

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NOVNC = Path(__file__).resolve().parents[1] / "node_modules" / "@novnc" / "novnc"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

needs_browser = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(not NOVNC.is_dir(), reason="npm has not installed noVNC: `make build`"),
]

# How often each colour is on a page's canvas, and how large that is, in pixels.
COLOURS = """() => {
  const canvas = document.querySelector("canvas");
  if (!canvas || !canvas.width) return {counts: {}};
  const {width, height} = canvas;
  const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
  const counts = {};
  for (let at = 0; at < data.length; at += 4) {
    const colour = [data[at], data[at + 1], data[at + 2]].join();
    counts[colour] = (counts[colour] ?? 0) + 1;
  }
  return {counts, width, height};
}"""
FOREGROUND = ",".join(str(part) for part in screen.FOREGROUND)
BACKGROUND = ",".join(str(part) for part in screen.BACKGROUND)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def colours(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(COLOURS)
    return found


def lit_pixels(*lines: str) -> int:
    """How many pixels of the text's colour the simulator's screen has with these lines."""
    frame = screen.render(list(lines), screen.PixelFormat())
    light = screen.PixelFormat().pixel(screen.FOREGROUND)
    return sum(frame[at : at + 4] == light for at in range(0, len(frame), 4))


def wait_for_lit_pixels(page: Page, count: int) -> None:
    """Until the canvas shows a screen with so many."""
    page.wait_for_function(
        f"([colour, count]) => ({COLOURS})().counts[colour] === count", arg=[FOREGROUND, count]
    )
