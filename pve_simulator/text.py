"""Small helpers for tables of words."""

from __future__ import annotations


def words(*lines: str) -> list[str]:
    """All words of some lines, in order: keeps long tables readable."""
    return " ".join(lines).split()
