"""The name of a Proxmox task, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_SHAPE = re.compile(
    r"UPID:(?P<node>[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)"
    r":(?P<pid>[0-9A-Fa-f]{8})"
    r":(?P<pstart>[0-9A-Fa-f]{8,9})"
    r":(?P<started_at>[0-9A-Fa-f]{8})"
    r":(?P<type>[^:\s]+)"
    r":(?P<id>[^:\s]*)"
    r":(?P<user>[^:\s!]+)(!(?P<tokenid>[^:\s]+))?:"
)


@dataclass(frozen=True, slots=True)
class Upid:
    """`UPID:node:pid:pstart:starttime:type:id:user[!token]:`, numbers in hex.

    `started_at` is in Unix seconds by the node's clock. `id` is the VMID for most tasks (for a
    clone the *source's*), a storage, a file name, or empty.
    """

    node: str
    pid: int
    pstart: int
    started_at: int
    type: str
    id: str
    user: str
    tokenid: str | None
    text: str = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Upid:
        """Raises ValueError for what is no UPID."""
        match = _SHAPE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"not the name of a Proxmox task: {str(text)[:120]!r}")
        return cls(
            node=match["node"],
            pid=int(match["pid"], 16),
            pstart=int(match["pstart"], 16),
            started_at=int(match["started_at"], 16),
            type=match["type"],
            id=match["id"],
            user=match["user"],
            tokenid=match["tokenid"],
            text=text,
        )

    def __str__(self) -> str:
        return self.text
