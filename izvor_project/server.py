"""The web server: uvicorn, which at its end lets go of who waits and who listens.

By itself it would wait for their connections until its patience is over.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from izvor_project.listening import let_go

STARTUP_FAILURE = 3


class Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        let_go()
        await super().shutdown(sockets)


def run(app: str, **options: Any) -> None:
    """As `uvicorn.run`."""
    config = uvicorn.Config(app, **options)
    server = Server(config)
    if config.workers > 1:
        # Its processes are plain servers: at their end they wait out their short patience.
        Multiprocess(config, sockets=[config.bind_socket()]).run()
        return
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)
