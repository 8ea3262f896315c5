"""A tree with the launcher's real code and stand-ins for all it starts but the servers.

Each stand-in writes the environment it was given to NAME.env.json, so that tests see what the
launcher decided."""

import shutil
import textwrap
from pathlib import Path

from tests.launcher.conftest import ROOT

NOTE = """
import json, os, pathlib, sys, time
def note(name):
    pathlib.Path(name + ".env.json").write_text(json.dumps({"argv": sys.argv, **os.environ}))
"""

MANAGE = """
import http.server
from note import *

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health/ready" else 404)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())

if sys.argv[1] == "prepare":
    note("prepare")
    if problem := os.environ.get("STUB_PREPARE_FAILS"):
        sys.exit(problem)
else:
    note("web")
    address = (os.environ["IZVOR_BIND"], int(os.environ["IZVOR_PORT"]))
    http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""

CELERY = """
from note import *
note("worker")
if problem := os.environ.get("STUB_WORKER_FAILS"):
    sys.exit(problem)
time.sleep(0.2)
print("celery@stub ready.", flush=True)
time.sleep(600)
"""

SIMULATOR = """
import argparse, datetime, http.server, ipaddress, ssl
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as s
from cryptography.hazmat.primitives.asymmetric import ec
from note import *

note("simulator")
parser = argparse.ArgumentParser()
for option in ("--host", "--port", "--state"):
    parser.add_argument(option, required=True)
arguments = parser.parse_args()

key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stub")])
now = datetime.datetime.now(datetime.UTC)
address = x509.IPAddress(ipaddress.ip_address(arguments.host))
certificate = (
    x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    .add_extension(x509.SubjectAlternativeName([address]), critical=False)
    .sign(key, hashes.SHA256())
)
folder = pathlib.Path(arguments.state)
ca = certificate.public_bytes(s.Encoding.PEM)
private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
(folder / "ca.pem").write_bytes(ca)
(folder / "both.pem").write_bytes(private + ca)

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder / "both.pem")
handler = http.server.SimpleHTTPRequestHandler
server = http.server.ThreadingHTTPServer((arguments.host, int(arguments.port)), handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def make_stub_tree(folder: Path) -> None:
    shutil.copytree(
        ROOT / "launcher", folder / "launcher", ignore=shutil.ignore_patterns("__pycache__")
    )
    files = {
        "note.py": NOTE,
        "manage.py": MANAGE,
        "celery/__main__.py": CELERY,
        "pve_simulator/__main__.py": SIMULATOR,
    }
    for name, code in files.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(textwrap.dedent(code))
