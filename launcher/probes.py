"""Is it ready? Each probe answers within its few seconds and raises nothing."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path

TIMEOUT_S = 5.0


def http_answers(host: str, port: int, path: str) -> bool:
    """True when GET answers 200."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def tls_answers(host: str, port: int, *, ca_file: Path) -> bool:
    """True when somebody there speaks TLS, with a certificate that this CA signed.

    No request: Proxmox, and so the simulator, lets one without a login wait for seconds."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
        with (
            socket.create_connection((host, port), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except OSError:
        return False  # not yet there; the CA too is made at the first start
