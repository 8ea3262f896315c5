"""Every route of the API with a request that is good, and what each role gets for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

API = "/api/v1"
ROLES = ("anonymous", "viewer", "member", "operator")
OWNERS = ("own", "others", "nobodys")
NEW_VM = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 512, "linked": True}
IMAGE = {"name": "new", "url": "https://images.example/x.qcow2"}
HOOK = {"url": "https://192.0.2.1/hook"}


@dataclass(frozen=True)
class Row:
    """A route, and what those get who may use it: `member` of what is theirs, `operator` of
    everything, by whose it is where that matters. `only` is the one role that may."""

    method: str
    path: str
    member: int = 200
    body: Any = None
    operator: int | dict[str, int] = field(default=0)
    only: str = ""
    # A GET that does something: not for viewers.
    acts: bool = False

    def expected(self, role: str, whose: str) -> int:
        if role == "anonymous":
            return 401
        if role == "operator":
            wanted = self.operator or self.member
            return wanted[whose] if isinstance(wanted, dict) else wanted
        if self.only or (role == "viewer" and self.method != "GET"):
            return 403
        if "{" in self.path and whose != "own":
            return 404
        return 403 if role == "viewer" and self.acts else self.member


ROWS = [
    Row("GET", "/vms"),
    Row("POST", "/vms", 202, NEW_VM),
    Row("GET", "/vms/{vm}"),
    Row("DELETE", "/vms/{vm}", 202),
    Row("PATCH", "/vms/{vm}", 200, {"metadata": {"a": "b"}}),
    Row("PUT", "/vms/{vm}", 200, {"metadata": {"a": "b"}}),
    Row("POST", "/vms/{vm}/actions", 202, {"action": "snapshot", "snapshot_name": "s1"}),
    Row("GET", "/vms/{vm}/metrics"),
    # The third does not run.
    Row(
        "GET",
        "/vms/{vm}/console",
        operator={"own": 200, "others": 200, "nobodys": 409},
        acts=True,
    ),
    Row("GET", "/vms/{vm}/snapshots"),
    Row("POST", "/vms/{vm}/snapshots", 202, {"name": "s1"}),
    Row("DELETE", "/vms/{vm}/snapshots/never", 404),
    Row("POST", "/vms/{vm}/snapshots/never/rollback", 404, {}),
    Row("GET", "/vms/sizes"),
    Row("GET", "/sizes"),
    Row("GET", "/sizes/small"),
    Row(
        "POST",
        "/sizes",
        201,
        {"name": "new", "cores": 1, "memory": 256, "disk_size": 1},
        only="operator",
    ),
    Row("PATCH", "/sizes/small", 200, {"cores": 3}, only="operator"),
    Row("DELETE", "/sizes/small", 204, only="operator"),
    Row("GET", "/templates"),
    Row("GET", "/templates/9000"),
    Row("POST", "/templates", 202, IMAGE, only="operator"),
    Row("DELETE", "/templates/9001", 202, only="operator"),
    Row("POST", "/templates/9002/copies", 202, {"node": "pve"}, only="operator"),
    Row("GET", "/tasks"),
    Row("GET", "/tasks/{task}"),
    Row("GET", "/tasks/{task}/log"),
    # It has not begun.
    Row("POST", "/tasks/{task}/cancel", 202),
    # It has not failed.
    Row("POST", "/tasks/{task}/retry", 409),
    Row("GET", "/nodes"),
    Row("GET", "/nodes/pve"),
    Row("GET", "/nodes/pve/storage"),
    Row("GET", "/nodes/pve/networks"),
    Row("GET", "/nodes/pve/metrics", only="operator"),
    Row("GET", "/storage"),
    Row("GET", "/isos"),
    Row("GET", "/images"),
    Row("GET", "/clusters"),
    Row("GET", "/cluster/status"),
    Row("GET", "/cluster/resources"),
    Row("GET", "/projects"),
    Row("POST", "/projects", 201, {"name": "new"}, only="operator"),
    Row("GET", "/projects/{project}"),
    Row("PATCH", "/projects/{project}", 200, {"description": "x"}, only="operator"),
    # The default one stays, and the neighbour has a VM.
    Row(
        "DELETE",
        "/projects/{project}",
        operator={"own": 409, "others": 409, "nobodys": 204},
        only="operator",
    ),
    Row("GET", "/quotas"),
    Row("GET", "/quotas/{project}"),
    Row("PUT", "/quotas/{project}", 200, {"vms": 3}, only="operator"),
    Row("PATCH", "/quotas/{project}", 200, {"vms": 3}, only="operator"),
    Row("GET", "/tokens"),
    Row("POST", "/tokens", 201, {"name": "new"}),
    Row("GET", "/tokens/{token}"),
    Row("PATCH", "/tokens/{token}", 200, {"name": "renamed"}),
    Row("DELETE", "/tokens/{token}", 204),
    Row("GET", "/webhooks"),
    Row("POST", "/webhooks", 201, HOOK),
    Row("GET", "/webhooks/{webhook}"),
    Row("PATCH", "/webhooks/{webhook}", 200, {"description": "x"}),
    Row("DELETE", "/webhooks/{webhook}", 204),
    Row("POST", "/webhooks/{webhook}/test", 202),
    Row("GET", "/webhooks/{webhook}/deliveries"),
    Row("GET", "/webhooks/{webhook}/deliveries/{delivery}"),
    Row("POST", "/webhooks/{webhook}/deliveries/{delivery}/redeliver", 202),
    Row("GET", "/audit"),
    Row("GET", "/events"),
]
