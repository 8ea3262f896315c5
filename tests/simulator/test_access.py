from __future__ import annotations

import time
from urllib.parse import quote

from pve_simulator import accidents
from pve_simulator.testing import SimulatorThread
from tests.simulator.client import Api
from tests.simulator.conftest import SPEED


def with_token(api: Api, token_id: str, secret: str) -> Api:
    return Api(api.sim, headers={"Authorization": f"PVEAPIToken={token_id}={secret}"})


def log_in(api: Api, password: str) -> tuple[str, str]:
    answer = api.post("/access/ticket", username="root@pam", password=password)
    assert answer.status == 200, answer.reason
    return answer.data["ticket"], answer.data["CSRFPreventionToken"]


def with_ticket(api: Api, ticket: str, csrf: str | None = None) -> Api:
    headers = {"Cookie": f"PVEAuthCookie={quote(ticket)}"}
    if csrf:
        headers["CSRFPreventionToken"] = csrf
    return Api(api.sim, headers=headers)


def new_token(api: Api, name: str, *, privsep: int = 1) -> Api:
    answer = api.post(f"/access/users/root@pam/token/{name}", privsep=privsep)
    return with_token(api, answer.data["full-tokenid"], answer.data["value"])


def test_a_refused_login_takes_three_seconds(api: Api):
    began = time.monotonic()
    answer = api.post("/access/ticket", username="root@pam", password="wrong")
    elapsed_s = (time.monotonic() - began) * SPEED
    assert (answer.status, answer.reason) == (401, "authentication failure")
    assert elapsed_s >= 3.0


def test_a_ticket_is_renewed_with_itself(sim: SimulatorThread, api: Api):
    ticket, _ = log_in(api, sim.password)
    renewed, _ = log_in(api, ticket)
    assert with_ticket(api, renewed).get("/version").status == 200


def test_an_expired_ticket_is_refused(sim: SimulatorThread, api: Api):
    ticket, _ = log_in(api, sim.password)
    sim.cause(accidents.expire_tickets)
    answer = with_ticket(api, ticket).get("/version")
    assert (answer.status, answer.body) == (401, "")


def test_a_write_with_a_ticket_needs_the_csrf_token(sim: SimulatorThread, api: Api):
    ticket, csrf = log_in(api, sim.password)
    path = "/nodes/pve/qemu/102/status/stop"
    answer = with_ticket(api, ticket).post(path)
    assert (answer.status, answer.reason) == (401, "Permission denied - invalid csrf token")
    assert with_ticket(api, ticket, csrf).post(path).status == 200


def test_a_separated_token_without_rights_sees_empty_lists(api: Api):
    token = new_token(api, "bare")
    assert token.get("/nodes/pve/qemu").data == []
    assert token.get("/cluster/resources").data == []


def test_a_missing_privilege_names_itself_and_its_path(api: Api):
    answer = new_token(api, "bare").post("/nodes/pve/qemu/100/status/stop")
    assert answer.status == 403
    assert answer.reason == "Permission check failed (/vms/100, VM.PowerMgmt)"


def test_a_separated_token_has_what_its_own_entries_grant(api: Api):
    token = new_token(api, "one")
    api.put("/access/acl", path="/vms/100", roles="PVEVMUser", tokens="root@pam!one")
    assert [row["vmid"] for row in token.get("/nodes/pve/qemu").data] == [100]
    assert token.get("/nodes/pve/qemu/100/status/current").status == 200
    answer = token.delete("/nodes/pve/qemu/100")
    assert answer.reason == "Permission check failed (/vms/100, VM.Allocate)"


def test_a_config_option_needs_its_own_privilege(api: Api):
    token = new_token(api, "cloudinit")
    api.put("/access/acl", path="/vms/100", roles="PVEVMUser", tokens="root@pam!cloudinit")
    answer = token.put("/nodes/pve/qemu/100/config", cores=3)
    assert answer.reason == "Permission check failed (/vms/100, VM.Config.CPU)"
    assert token.put("/nodes/pve/qemu/100/config", ciuser="me").status == 200


def test_a_token_of_root_is_not_root(api: Api):
    answer = api.put("/nodes/pve/qemu/100/config", lock="backup")
    assert (answer.status, answer.reason) == (500, "only root can set 'lock' config")


def test_roots_password_ticket_may_set_a_lock(sim: SimulatorThread, api: Api):
    root = with_ticket(api, *log_in(api, sim.password))
    assert root.put("/nodes/pve/qemu/102/config", lock="backup").status == 500  # is on pve3
    node = sim.world.guests[102].node
    assert root.put(f"/nodes/{node}/qemu/102/config", lock="backup").status == 200
    assert sim.world.guests[102].lock == "backup"


def test_a_token_sees_only_its_own_tasks_without_sys_audit(api: Api):
    api.done(api.post("/nodes/pve3/qemu/102/status/stop"))
    token = new_token(api, "bare")
    other = api.post("/nodes/pve3/qemu/102/status/stop").data
    assert token.get("/nodes/pve3/tasks").data == []
    answer = token.get(f"/nodes/pve3/tasks/{quote(other, safe='')}/status")
    assert answer.reason == "Permission check failed (/nodes/pve3, Sys.Audit)"


def test_a_clone_needs_its_source_its_number_its_storage_and_its_bridge(api: Api):
    token = new_token(api, "cloner")

    def grant(path: str, role: str) -> None:
        answer = api.put("/access/acl", path=path, roles=role, tokens="root@pam!cloner")
        assert answer.status == 200

    def refusal() -> str:
        return token.post("/nodes/pve/qemu/9000/clone", newid=200).reason

    assert refusal() == "Permission check failed (/vms/9000, VM.Clone)"
    grant("/vms/9000", "PVETemplateUser")
    assert refusal() == "Permission check failed"
    grant("/vms/200", "PVEVMAdmin")
    assert refusal() == "Permission check failed (/storage/ceph, Datastore.AllocateSpace)"
    grant("/storage/ceph", "PVEDatastoreUser")
    assert refusal() == "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)"
    grant("/sdn/zones/localnetwork", "PVESDNUser")
    assert token.post("/nodes/pve/qemu/9000/clone", newid=200).status == 200


def test_an_iso_needs_a_right_on_its_storage(api: Api):
    token = new_token(api, "attacher")
    for role in ("PVEVMAdmin",):
        api.put("/access/acl", path="/vms/100", roles=role, tokens="root@pam!attacher")
    iso = "local:iso/debian-12.11.0-amd64-netinst.iso,media=cdrom"
    answer = token.put("/nodes/pve/qemu/100/config", ide3=iso)
    privileges = "Datastore.AllocateSpace|Datastore.Audit"
    assert answer.reason == f"Permission check failed (/storage/local, {privileges})"


def test_version_9_has_agent_privileges_in_place_of_monitor():
    with SimulatorThread(speed=SPEED, pve_version="9.0") as sim:
        api = Api(sim)
        held = api.get("/access/permissions", path="/vms/100").data["/vms/100"]
        assert "VM.Monitor" not in held
        assert "VM.GuestAgent.Audit" in held
        path = "/nodes/pve/qemu/100/agent/network-get-interfaces"
        assert api.get(path).status == 200
        answer = new_token(api, "bare").get(path)
        privileges = "VM.GuestAgent.Audit|VM.GuestAgent.Unrestricted"
        assert answer.reason == f"Permission check failed (/vms/100, {privileges})"
