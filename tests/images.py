"""A web server with cloud images, for nodes to download from."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GIB = 1024**3
# What is looked at of a qcow2: its magic, and the size of the disk inside.
DISK = b"QFI\xfb\0\0\0\3" + bytes(16) + (3 * GIB).to_bytes(8, "big") + bytes(1000)
SHA256 = hashlib.sha256(DISK).hexdigest()


class ImageServer:
    """`/debian.qcow2` is there, as large as DISK; `asked` are the paths that were asked for.

    Nothing is given out while `is_open` is not set.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_open = threading.Event()
        self.is_open.set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append(self.path)
                owner.is_open.wait(10)
                if not self.path.partition("?")[0].endswith(("/debian.qcow2", "/debian.img")):
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(DISK)))
                self.end_headers()
                self.wfile.write(DISK)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def serving() -> Iterator[ImageServer]:
    images = ImageServer()
    thread = threading.Thread(target=images.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield images
    finally:
        images.is_open.set()
        images.server.shutdown()
        images.server.server_close()
        thread.join()
