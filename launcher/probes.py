"""Is it ready? Each probe answers within its few seconds and raises nothing."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

TIMEOUT_S = 5.0


def http_answers(host: str, port: int, path: str) -> bool:
    """True when GET answers 200."""
    return _status(http.client.HTTPConnection(host, port, timeout=TIMEOUT_S), path) == 200


def https_answers(host: str, port: int, path: str, *, ca_file: Path) -> bool:
    """True when GET answers anything over TLS with a certificate that this CA signed."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
    except OSError:
        return False  # the CA is made at the first start
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    return _status(connection, path) is not None


def _status(connection: http.client.HTTPConnection, path: str) -> int | None:
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
