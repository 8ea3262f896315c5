"""Usage over time as drawings: SVG made here, so that a page needs no library and no script."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from proxmox.results import UsagePoint

WIDTH, HEIGHT = 480, 150
LEFT, RIGHT, TOP, BOTTOM = 66, 8, 8, 22
# How a moment is written below the axis.
CLOCKS = {"hour": "%H:%M", "day": "%H:%M", "week": "%a %d", "month": "%d %b", "year": "%b %Y"}
TICKS = 4

Value = Callable[[UsagePoint], float | None]


@dataclass(frozen=True)
class Line:
    name: str
    value: Value


@dataclass(frozen=True)
class Chart:
    title: str
    lines: tuple[Line, ...]
    say: Callable[[float], str]
    # What the axis reaches at least: a machine that idles at 1 % shall not look busy.
    least_top: float


def per_cent(value: float) -> str:
    return f"{value:.0f} %"


def in_bytes(value: float) -> str:
    """1024 to a step, at most three digits."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1000 or unit == "TiB":
            return f"{value:.0f} {unit}" if value >= 10 or value == 0 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes all")


def in_bytes_a_second(value: float) -> str:
    return f"{in_bytes(value)}/s"


def _cpu(point: UsagePoint) -> float | None:
    return None if point.cpu_fraction is None else 100 * point.cpu_fraction


CHARTS = (
    Chart("CPU", (Line("of its cores", _cpu),), per_cent, 100),
    Chart(
        "Memory",
        (
            Line("used", lambda point: point.memory_used_bytes),
            Line("has", lambda point: point.memory_bytes),
        ),
        in_bytes,
        1024**2,
    ),
    Chart(
        "Disk",
        (
            Line("read", lambda point: point.disk_read_bytes_per_s),
            Line("written", lambda point: point.disk_write_bytes_per_s),
        ),
        in_bytes_a_second,
        1024,
    ),
    Chart(
        "Network",
        (
            Line("in", lambda point: point.net_in_bytes_per_s),
            Line("out", lambda point: point.net_out_bytes_per_s),
        ),
        in_bytes_a_second,
        1024,
    ),
)


def draw_all(points: Sequence[UsagePoint], timeframe: str) -> list[SafeString]:
    ordered = sorted(points, key=lambda point: point.at)
    return [draw(chart, ordered, timeframe) for chart in CHARTS]


def draw(chart: Chart, points: Sequence[UsagePoint], timeframe: str) -> SafeString:
    """One chart; where nothing was measured its lines have gaps."""
    values = [line.value(point) for line in chart.lines for point in points]
    known = [value for value in values if value is not None and math.isfinite(value)]
    top = round_up(max([chart.least_top, *known]), is_bytes=chart.say is not per_cent)
    place = _Place(points, top)
    legend = format_html_join(
        " ",
        '<span class="iz-key iz-line-{}">{} <b>{}</b></span>',
        (
            (number, line.name, latest(line, points, chart.say))
            for number, line in enumerate(chart.lines)
        ),
    )
    return format_html(
        '<figure class="iz-chart"><figcaption><b>{}</b> {}</figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}</svg></figure>',
        chart.title,
        legend,
        WIDTH,
        HEIGHT,
        f"{chart.title} over the last {timeframe}",
        _levels(chart, top),
        _moments(points, place, timeframe),
        format_html_join(
            "",
            '<path class="iz-line-{}" d="{}"/>',
            ((number, path(line, points, place)) for number, line in enumerate(chart.lines)),
        ),
    )


class _Place:
    """From moments and values to the drawing's own numbers."""

    def __init__(self, points: Sequence[UsagePoint], top: float) -> None:
        self.begins = points[0].at if points else 0
        self.lasts = max(1, points[-1].at - self.begins) if points else 1
        self.top = top

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - self.begins) / self.lasts

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.0, max(0.0, value / self.top))


def path(line: Line, points: Sequence[UsagePoint], place: _Place) -> str:
    """M and L commands; a new M after each gap."""
    commands, is_down = [], False
    for point in points:
        value = line.value(point)
        if value is None or not math.isfinite(value):
            is_down = False
            continue
        letter = "L" if is_down else "M"
        commands.append(f"{letter}{place.x(point.at):.1f} {place.y(value):.1f}")
        is_down = True
    return "".join(commands)


def latest(line: Line, points: Sequence[UsagePoint], say: Callable[[float], str]) -> str:
    found = (line.value(point) for point in reversed(points))
    value = next((value for value in found if value is not None and math.isfinite(value)), None)
    return "–" if value is None else say(value)


def round_up(value: float, *, is_bytes: bool) -> float:
    """A number that is easily halved: 1, 2, 4, 8 … of its unit, or hundreds of percent."""
    if not is_bytes:
        return 100 * math.ceil(value / 100)
    return float(2 ** math.ceil(math.log2(max(1.0, value))))


def _levels(chart: Chart, top: float) -> SafeString:
    rows = []
    for part in (0.0, 0.5, 1.0):
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part
        rows.append((LEFT, WIDTH - RIGHT, f"{y:.1f}", f"{y:.1f}", LEFT - 6, f"{y + 4:.1f}"))
    words = [chart.say(top * part) if part else "0" for part in (0.0, 0.5, 1.0)]
    return format_html_join(
        "",
        '<line class="iz-grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text x="{}" y="{}" text-anchor="end">{}</text>',
        ((*row, word) for row, word in zip(rows, words, strict=True)),
    )


def _moments(points: Sequence[UsagePoint], place: _Place, timeframe: str) -> SafeString:
    if not points:
        return format_html(
            '<text x="{}" y="{}" text-anchor="middle">nothing was measured</text>',
            (LEFT + WIDTH) / 2,
            HEIGHT / 2,
        )
    each = place.lasts / TICKS
    rows = []
    for number in range(TICKS + 1):
        at = place.begins + number * each
        when = timezone.localtime(datetime.datetime.fromtimestamp(at, datetime.UTC))
        anchor = "start" if number == 0 else "end" if number == TICKS else "middle"
        rows.append((f"{place.x(at):.1f}", HEIGHT - 6, anchor, when.strftime(CLOCKS[timeframe])))
    return format_html_join("", '<text x="{}" y="{}" text-anchor="{}">{}</text>', rows)
