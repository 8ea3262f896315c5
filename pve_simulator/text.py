"""Small helpers for tables of words."""

from __future__ import annotations

import re


def words(*lines: str) -> list[str]:
    """All words of some lines, in order: keeps long tables readable."""
    return " ".join(lines).split()


def reason_phrase(text: str) -> str:
    """What of a text may stand in the status line."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).strip()
