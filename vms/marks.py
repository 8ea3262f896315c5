"""The ownership mark: a comment in a VM's description that says which Izvor made it, as what.

Proxmox's web interface hides HTML comments. A clone copies its source's description, so a mark
counts only when it names the VMID it stands under.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

_MARK = re.compile(
    r"\n?<!-- izvor cluster=(?P<cluster>[0-9a-f-]{36})"
    r" vm=(?P<vm>[0-9a-f-]{36}) vmid=(?P<vmid>\d+) -->"
)


@dataclass(frozen=True)
class Mark:
    cluster: uuid.UUID
    vm: uuid.UUID
    vmid: int

    def __str__(self) -> str:
        return f"<!-- izvor cluster={self.cluster} vm={self.vm} vmid={self.vmid} -->"


def read_mark(description: str) -> Mark | None:
    found = _MARK.search(description)
    if found is None:
        return None
    return Mark(uuid.UUID(found["cluster"]), uuid.UUID(found["vm"]), int(found["vmid"]))


def with_mark(description: str, mark: Mark) -> str:
    """The person's own text, then the mark; a mark that was there is replaced."""
    text = without_mark(description)
    return f"{text}\n{mark}" if text else str(mark)


def without_mark(description: str) -> str:
    """What the person wrote."""
    return _MARK.sub("", description).rstrip("\n")
