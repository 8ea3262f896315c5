"""The children's output, one file each in the state folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

ROTATE_AT_BYTES = 10 * 1024 * 1024


def open_log(path: Path) -> BinaryIO:
    """Open for appending, private to us. A large log moves aside to NAME.log.1 first."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and path.stat().st_size > ROTATE_AT_BYTES:
        path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "ab", buffering=0)


def last_lines(path: Path, count: int = 10, *, since: int = 0) -> list[str]:
    """The log's last lines that say something, none from before the byte `since`."""
    try:
        with path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(min(since, end), end - 16_384))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]
