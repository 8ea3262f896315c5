"""A receiver of Izvor's webhooks, with nothing but Python: how a serverless service, Impuls, learns
that a VM it asked for is there, and puts it to use with a token of its own.

    export IMPULS_SECRET=whsec_… IZVOR_URL=http://127.0.0.1:8082 IZVOR_TOKEN=izv_…
    python webhook_receiver.py 9000

and, once, before that, tell Izvor of it (the answer has the secret):

    curl -X POST $IZVOR_URL/api/v1/webhooks -H "Authorization: Bearer $IZVOR_TOKEN" \\
      -H "Content-Type: application/json" \\
      -d '{"url": "https://impuls.example.org/izvor", "types": ["task.succeeded", "vm.*"]}'

A delivery may come twice (Izvor sends it until somebody has said 2xx), so what was done is noted by
its id. Whatever goes wrong is answered with 500: Izvor comes back with the same delivery later.
"""

import hashlib
import hmac
import json
import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = os.environ["IMPULS_SECRET"]
IZVOR = os.environ["IZVOR_URL"].rstrip("/")
TOKEN = os.environ.get("IZVOR_TOKEN", "")
# How old a signature may be: an overheard one is of no use later. Repetitions are signed anew.
TOLERANCE_S = 300
BODY_MAX = 1024 * 1024

# In a service of its own this is a table with a unique column, written with what was done.
done: set[str] = set()


def is_genuine(header: str, body: bytes) -> bool:
    """`Izvor-Signature: t=SECONDS,v1=HEX`, over the seconds, a dot and the body as it came."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    at = parts.get("t", "")
    if not at.isdecimal() or abs(time.time() - int(at)) > TOLERANCE_S:
        return False
    wanted = hmac.new(SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted, parts.get("v1", ""))


def handle(event: dict[str, Any]) -> None:
    """What Impuls does about it. Any error means: not done, send it again."""
    if event["type"] == "task.succeeded" and event["details"]["operation"] == "create_vm":
        vm = izvor("GET", f"/vms/{event['subject']}")
        ready = {**vm["metadata"], "impuls": "ready", "impuls-task": event["task"]}
        izvor("PATCH", f"/vms/{vm['uuid']}", {"metadata": ready})
        print(f"VM {vm['id']} at {vm['ip_address']} is ready for functions", flush=True)
    elif event["type"] == "vm.missing":
        print(f"VM {event['label']} is gone: its functions go elsewhere", flush=True)
    else:
        print(f"{event['type']} {event['label']}", flush=True)


def izvor(method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(  # noqa: S310
        f"{IZVOR}/api/v1{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=8) as answer:  # noqa: S310
        return json.load(answer)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if 0 <= length <= BODY_MAX else b""
        if not is_genuine(self.headers.get("Izvor-Signature", ""), body):
            self.answer(401)
            return
        delivery = self.headers["Izvor-Delivery"]
        if delivery not in done:
            try:
                handle(json.loads(body))
            except (OSError, ValueError, KeyError) as error:
                print(f"not done: {type(error).__name__}: {error}", flush=True)
                self.answer(500)
                return
            done.add(delivery)
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet: what matters is printed by `handle`."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
        print(f"listening on port {server.server_port}", flush=True)
        server.serve_forever()
