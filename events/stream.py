"""What the view hands to the layer that streams: who listens to what, and from where on."""

from __future__ import annotations

import json
from dataclasses import dataclass

from events.wanted import Wanted

# Read and removed by the stream layer; it never leaves the process.
STREAM_HEADER = "X-Izvor-Stream"


@dataclass(frozen=True)
class Order:
    """`after` is the last number heard of (None: from now on), `token_id` is None where
    IZVOR_AUTH=none lets everybody in."""

    wanted: Wanted
    after: int | None
    token_id: int | None

    def to_header(self) -> str:
        wanted = self.wanted
        return json.dumps([wanted.project_id, wanted.types, wanted.vm, self.after, self.token_id])

    @classmethod
    def from_header(cls, text: str) -> Order:
        project_id, types, vm, after, token_id = json.loads(text)
        wanted = Wanted(project_id=project_id, types=tuple(types), vm=vm)
        return cls(wanted=wanted, after=after, token_id=token_id)
