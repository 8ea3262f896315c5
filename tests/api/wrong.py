"""What is sent in place of what should be."""

from __future__ import annotations

from typing import Any

WRONG_TEXTS: list[Any] = [7, True, ["x"], {"x": 1}, None, 1.5]
WRONG_NUMBERS: list[Any] = ["2", True, 1.5, [2], {}, None]
WRONG_FLAGS: list[Any] = ["true", 1, None, [], {}]
NO_LISTS: list[Any] = ["web", 1, None, {"a": "b"}]
NO_OBJECTS: list[Any] = ["x", 1, None, ["a"]]
HOSTILE = [
    "../../../etc/passwd",
    "..",
    "a?b=c#d",
    "a\x00b",
    "\x00",
    "💥",
    "\ud800",
    "\udfff\ud800",
    "a\r\nX-Evil: 1",
    "'; DROP TABLE vms_virtualmachine; --",
    "%00",
    "%2e%2e%2f",
    "{{7*7}}",
    "\u202e",
    "<script>",
    "x" * 5000,
    "٣٠٠",
    "1e9",
    "-1",
    "0",
    "99999999999999999999",
]
