"""Charts: what was measured, where it was measured."""

from __future__ import annotations

import re

import pytest

from proxmox.results import UsagePoint
from vms.charts import CHARTS, draw, draw_all, in_bytes, round_up


def point(at: int, **values: float | None) -> UsagePoint:
    names = UsagePoint.__dataclass_fields__
    return UsagePoint(**{**dict.fromkeys(names), "at": at, **values})  # type: ignore[arg-type]


def paths(svg: str) -> list[str]:
    return re.findall(r'd="([^"]*)"', svg)


def test_a_line_goes_from_left_to_right_and_up_as_usage_does():
    svg = draw(CHARTS[0], [point(0, cpu_fraction=0.0), point(60, cpu_fraction=1.0)], "hour")
    (path,) = paths(svg)
    assert re.fullmatch(r"M66\.0 128\.0L472\.0 8\.0", path)
    assert "<b>100 %</b>" in svg


def test_where_nothing_was_measured_the_line_has_a_gap():
    measured = [point(at, cpu_fraction=None if at == 120 else 0.5) for at in range(0, 300, 60)]
    (path,) = paths(draw(CHARTS[0], measured, "hour"))
    assert path.count("M") == 2
    assert path.count("L") == 2


def test_nothing_at_all_and_what_is_no_number_draw_an_empty_chart():
    assert "nothing was measured" in draw(CHARTS[0], [], "year")
    for broken in (float("nan"), float("inf"), None):
        (path,) = paths(draw(CHARTS[0], [point(0, cpu_fraction=broken)], "day"))
        assert path == ""


def test_points_are_put_in_order():
    shuffled = [point(60, cpu_fraction=1.0), point(0, cpu_fraction=0.0)]
    assert paths(draw_all(shuffled, "week")[0]) == ["M66.0 128.0L472.0 8.0"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (3 * 1024**5, "3072 TiB"),
    ],
)
def test_sizes_have_three_digits_and_a_unit(value, words):
    assert in_bytes(value) == words


@pytest.mark.parametrize(("value", "top"), [(0.5, 1), (1000, 1024), (1025, 2048)])
def test_an_axis_ends_at_a_round_number(value, top):
    assert round_up(value, is_bytes=True) == top
