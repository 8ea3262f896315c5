"""Every refusal and every failed task in the recording, and what it must become."""

from __future__ import annotations

import copy
import pickle

import pytest

from proxmox import (
    Conflict,
    Forbidden,
    Locked,
    NotFound,
    OutcomeUnknown,
    ProxmoxError,
    Rejected,
    Unauthorized,
    Unreachable,
    classify,
    classify_task_error,
)
from tests.proxmox.recording import Exchange, by_name, exchanges, task_logs

# What each class adds to its name; of Rejected the parameters that it complains of.
DETAIL = {
    Conflict: "reason",
    NotFound: "what",
    Locked: "lock",
    Forbidden: "privilege",
    Rejected: "errors",
}

REFUSALS: dict[str, tuple[type[ProxmoxError], object]] = {
    "002-version-noauth": (Unauthorized, None),
    "006-ticket-bad-password": (Unauthorized, None),
    "007-ticket-unknown-realm": (Unauthorized, None),
    "008-ticket-unknown-user": (Unauthorized, None),
    "009-ticket-missing-password": (Rejected, ["password"]),
    "012-version-bad-token-secret": (Unauthorized, None),
    "013-version-unknown-token-id": (Unauthorized, None),
    "014-version-malformed-token": (Unauthorized, None),
    "015-version-bearer-scheme": (Unauthorized, None),
    "016-version-tampered-ticket": (Unauthorized, None),
    "017-version-expired-ticket": (Unauthorized, None),
    "018-post-expired-ticket": (Unauthorized, None),
    "019-post-missing-csrf": (Unauthorized, None),
    "020-post-wrong-csrf": (Unauthorized, None),
    "022-token-user-cannot-create-ticket": (Unauthorized, None),
    "026-limited-token-node-status-403": (Forbidden, "Sys.Audit"),
    "027-limited-token-create-403": (Forbidden, None),
    "028-limited-token-storage-403": (Forbidden, "Datastore.Audit|Datastore.AllocateSpace"),
    "030-user-create-duplicate": (Conflict, "exists"),
    "032-token-create-duplicate": (Conflict, "exists"),
    "034-version-with-expired-token": (Unauthorized, None),
    "039-acl-unknown-role": (NotFound, "role"),
    "040-acl-bad-path": (Rejected, ["path"]),
    "044-version-token-of-deleted-user": (Unauthorized, None),
    "045-plain-http": (Rejected, []),
    "054-node-unknown-status": (NotFound, "node"),
    "060-cluster-resources-bad-type": (Rejected, ["type"]),
    "065-nextid-check-below-100": (Rejected, ["vmid"]),
    "070-storage-status-unknown": (NotFound, "storage"),
    "080-not-implemented-path": (Rejected, []),
    "081-not-implemented-method": (Rejected, []),
    "082-wrong-method-delete-version": (Rejected, []),
    "083-bad-format-prefix": (Rejected, []),
    "086-malformed-json-body": (Rejected, []),
    "087-create-missing-vmid": (Rejected, ["vmid"]),
    "088-create-bad-parameter-name": (Rejected, ["frobnicate"]),
    "089-create-bad-parameter-values": (Rejected, ["cores", "memory", "name", "net0"]),
    "090-create-vmid-too-small": (Rejected, ["vmid"]),
    "091-create-unknown-storage": (NotFound, "storage"),
    "100-create-args-non-root": (Forbidden, None),
    "105-create-duplicate-vmid": (Conflict, "exists"),
    "106-nextid-check-used": (Conflict, "exists"),
    "109-config-unknown-vmid": (NotFound, "guest"),
    "110-status-unknown-vmid": (NotFound, "guest"),
    "117-delete-unknown-vmid": (NotFound, "guest"),
    "124-config-put-bad-digest": (Conflict, "digest"),
    "126-config-put-unknown-option": (Rejected, ["nosuch"]),
    "129-config-put-delete-unknown-option": (Rejected, ["delete"]),
    "130-config-put-empty": (Rejected, []),
    "139-config-sshkeys-invalid-key": (Rejected, []),
    "146-reboot-stopped-vm": (Conflict, "not_running"),
    "147-suspend-stopped-vm": (Conflict, "not_running"),
    "148-resume-stopped-vm": (Conflict, "not_running"),
    "158-delete-running": (Conflict, "running"),
    "159-template-running": (Conflict, "running"),
    "186-agent-ping-not-running": (Conflict, "agent_not_running"),
    "187-agent-network-not-running": (Conflict, "agent_not_running"),
    "207-config-put-while-suspended": (Locked, "suspended"),
    "223-snapshot-bad-name": (Rejected, ["snapname"]),
    "224-snapshot-name-current": (Rejected, []),
    "253-template-with-snapshots": (Conflict, "has_snapshots"),
    "258-template-with-snapshots-stopped": (Conflict, "has_snapshots"),
    "280-resize-bad-size": (Rejected, ["size"]),
    "299-config-missing-iso": (NotFound, "volume"),
    "311-config-sshkeys-not-urlencoded": (Rejected, ["sshkeys"]),
    "312-config-sshkeys-plus-for-space": (Rejected, ["sshkeys"]),
    "334-agent-exec-status-unknown": (Rejected, []),
    "338-vncwebsocket-bad-ticket": (Unauthorized, None),
    "371-template-again": (Conflict, "template"),
    "391-clone-newid-exists": (Conflict, "exists"),
    "392-clone-newid-missing": (Rejected, ["newid"]),
    "393-clone-unknown-source": (NotFound, "guest"),
    "394-clone-unknown-target-node": (NotFound, "node"),
    "395-clone-unknown-storage": (NotFound, "storage"),
    "396-clone-linked-with-storage": (Rejected, []),
    "397-clone-bad-name": (Rejected, ["name"]),
    "398-clone-unknown-pool": (NotFound, "pool"),
    "399-clone-linked-of-nontemplate": (Rejected, []),
    "429-during-clone-config-put-target": (Locked, None),
    "434-during-clone-clone-of-target": (Locked, "clone"),
    "443-during-clone-same-newid": (Conflict, "exists"),
    "448-during-clone-source-config-put": (Locked, None),
    "456-abort-clone-leftover-status": (NotFound, "guest"),
    "479-race-create-same-vmid-0": (Conflict, "exists"),
    "500-set-lock-as-non-root": (Forbidden, None),
    "501-set-lock-root-token": (Forbidden, None),
    "508-locked-clone": (Locked, "backup"),
    "515-locked-config-put": (Locked, "backup"),
    "517-locked-start-skiplock-non-root": (Forbidden, None),
    "518-unlock-non-root": (Forbidden, None),
    "519-unlock-root-token": (Forbidden, None),
    "520-unlock-root-token-skiplock": (Forbidden, None),
    "522-delete-protected": (Conflict, "protected"),
    "530-pool-create-duplicate": (Conflict, "exists"),
    "533-pool-delete-not-empty": (Conflict, "in_use"),
    "539-reader-start-403": (Forbidden, "VM.PowerMgmt"),
    "540-reader-config-put-403": (
        Forbidden,
        "VM.Config.Disk|VM.Config.CDROM|VM.Config.CPU|VM.Config.Memory|VM.Config.Network|VM.Config.HWType|VM.Config.Options|VM.Config.Cloudinit",
    ),
    "541-reader-delete-403": (Forbidden, "VM.Allocate"),
    "542-reader-clone-403": (Forbidden, "VM.Clone"),
    "549-task-malformed-upid": (Rejected, ["upid"]),
    "550-task-unknown-upid": (NotFound, "task"),
    "556-task-status-other-user": (Forbidden, "Sys.Audit"),
    "561-storage-create-bad-type": (Rejected, ["storage", "type"]),
    "569-migrate-to-self": (Rejected, ["target"]),
    "570-migrate-unknown-node": (NotFound, "node"),
    "579-delete-config-gone": (NotFound, "guest"),
    "585-delete-twice": (NotFound, "guest"),
    "623-delete-vm-with-snapshots-running": (Conflict, "running"),
    "624-agent-ping-paused": (Conflict, "agent_not_running"),
    "703-restore-over-existing-without-force": (Conflict, "exists"),
    "794-download-url-bad-extension": (Rejected, ["filename"]),
    "795-download-url-iso-content-img-name": (Rejected, ["filename"]),
    "796-download-url-storage-without-import": (Rejected, []),
    "807-upload-snippet-refused": (Rejected, ["content"]),
    "812-upload-bad-extension": (Rejected, ["filename"]),
    "854-rrddata-bad-timeframe": (Rejected, ["timeframe"]),
    "867-pipe-status-gone": (NotFound, "guest"),
    "872-delete-with-body": (Rejected, []),
}

# The websocket's handshake is not a call of the API.
NOT_REFUSALS = {"337-vncwebsocket-ok"}

# By the exchange that asked for the task's status.
TASK_FAILURES: dict[str, tuple[type[ProxmoxError], object]] = {
    "094-create-with-missing-iso-task-status": (NotFound, "volume"),
    "097-create-disk-on-storage-without-images-task-status-running": (NotFound, "volume"),
    "098-create-disk-on-storage-without-images-task-status": (NotFound, "volume"),
    "112-start-unknown-vmid-task-status": (NotFound, "guest"),
    "115-stop-unknown-vmid-task-status": (NotFound, "guest"),
    "155-start-running-task-status-running": (Conflict, "running"),
    "156-start-running-task-status": (Conflict, "running"),
    "190-shutdown-guest-ignores-task-status": (Conflict, "guest_ignored"),
    "194-reboot-guest-ignores-task-status": (Conflict, "guest_ignored"),
    "221-snapshot-duplicate-name-task-status": (Conflict, "exists"),
    "248-rollback-unknown-snapshot-task-status": (NotFound, "snapshot"),
    "251-snapshot-delete-unknown-task-status": (NotFound, "snapshot"),
    "274-resize-shrink-task-status": (Rejected, None),
    "277-resize-unknown-disk-task-status-running": (NotFound, "disk"),
    "278-resize-unknown-disk-task-status": (NotFound, "disk"),
    "290-start-unknown-bridge-task-status": (NotFound, "bridge"),
    "303-start-not-enough-memory-task-status": (Rejected, None),
    "373-template-start-task-status": (Conflict, "template"),
    "376-template-snapshot-task-status": (Conflict, "template"),
    "380-template-resize-task-status": (Rejected, None),
    "427-during-clone-start-target-task-status": (Locked, None),
    "432-during-clone-delete-target-task-status": (Locked, None),
    "437-during-clone-snapshot-target-task-status": (Locked, None),
    "441-during-clone-resize-target-task-status": (Locked, None),
    "454-abort-clone-task-status": (OutcomeUnknown, None),
    "489-race-clone-same-newid-1-task-status": (Conflict, "exists"),
    "496-race-start-same-vm-0-task-status": (Conflict, "running"),
    "503-locked-start-task-status": (Locked, "backup"),
    "510-locked-delete-task-status": (Locked, "backup"),
    "513-locked-snapshot-task-status": (Locked, "backup"),
    "552-task-unencoded-upid": (OutcomeUnknown, None),
    "564-disk-on-missing-volume-task-status": (NotFound, "volume"),
    "780-download-url-existing-name-task-status": (Conflict, "exists"),
    "784-download-url-bad-checksum-task-status": (Rejected, None),
    "787-download-url-404-task-status-running": (Rejected, None),
    "788-download-url-404-task-status": (Rejected, None),
    "792-download-url-refused-task-status": (Rejected, None),
    "826-build-create-import-missing-task-status": (NotFound, "volume"),
}

# What a person reads where the exit status alone says too little, or too much.
CAUSES = {
    "290-start-unknown-bridge-task-status": "bridge 'vmbr99' does not exist",
    "303-start-not-enough-memory-task-status": (
        "kvm: cannot set up guest memory 'pc.ram': Cannot allocate memory"
    ),
    "380-template-resize-task-status": (
        "qemu-img: Could not open '/var/lib/vz/images/9000/base-9000-disk-0.qcow2': "
        "Could not open '/var/lib/vz/images/9000/base-9000-disk-0.qcow2': Operation not permitted"
    ),
    "454-abort-clone-task-status": (
        "clone failed: copy failed: qemu-img failed: interrupted by signal"
    ),
    "788-download-url-404-task-status": "ERROR 404: File not found.",
}


def detail(error: ProxmoxError) -> object:
    value = getattr(error, DETAIL[type(error)]) if type(error) in DETAIL else None
    return sorted(value) if isinstance(value, dict) else value


def refusal(exchange: Exchange) -> ProxmoxError:
    return classify(exchange.status, exchange.reason, exchange.json_body, method=exchange.method)


def failed_tasks() -> dict[str, str]:
    return {
        each.name: each.body["data"]["exitstatus"]
        for each in exchanges()
        if "/tasks/" in each.path
        and each.path.endswith("/status")
        and each.status == 200
        and not each.body["data"].get("exitstatus", "OK").startswith(("OK", "WARNINGS"))
    }


def test_the_tables_cover_the_whole_recording():
    refused = {each.name for each in exchanges() if each.status != 200}
    assert refused == set(REFUSALS) | NOT_REFUSALS
    assert set(failed_tasks()) == set(TASK_FAILURES)


@pytest.mark.parametrize("name", REFUSALS)
def test_a_recorded_refusal_becomes(name):
    error = refusal(by_name(name))
    assert (type(error), detail(error)) == REFUSALS[name]
    assert error.status == by_name(name).status


@pytest.mark.parametrize("name", REFUSALS)
def test_the_reason_phrase_alone_is_enough_for(name):
    """Before January 2025 the body carried no message, and for some statuses it is empty."""
    exchange = by_name(name)
    body = dict(exchange.json_body or {})
    body.pop("message", None)
    error = classify(exchange.status, exchange.reason, body, method=exchange.method)
    assert (type(error), detail(error)) == REFUSALS[name]
    assert error.message == refusal(exchange).message


@pytest.mark.parametrize("name", TASK_FAILURES)
def test_a_recorded_task_failure_becomes(name):
    log = task_logs().get(by_name(name).path.removesuffix("/status"), [])
    error = classify_task_error(failed_tasks()[name], log)
    expected = TASK_FAILURES[name]
    assert (type(error), None if expected[1] is None else detail(error)) == expected
    assert error.status is None


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_said_for(name):
    log = task_logs()[by_name(name).path.removesuffix("/status")]
    assert classify_task_error(failed_tasks()[name], log).message == CAUSES[name]


def test_failures_that_show_only_in_task_lists_are_sorted_too():
    shown = {
        entry["status"]
        for each in exchanges()
        if each.path.endswith("/tasks") and each.status == 200
        for entry in each.body["data"]
        if "endtime" in entry and entry["status"] != "OK"
    }
    in_use = next(text for text in shown if text.startswith("base volume"))
    error = classify_task_error(in_use)
    assert isinstance(error, Conflict)
    assert error.reason == "in_use"
    # None of them is taken for a task that ended without saying anything.
    assert all(classify_task_error(text).message for text in shown)


def test_a_cause_is_not_looked_for_where_the_status_says_it():
    error = classify_task_error("VM is locked (backup)", ["something else"])
    assert error.message == "VM is locked (backup)"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            ["ERROR: migration aborted (duration 00:00:10): Can't connect to 'pve2'"],
            "Can't connect",
        ),
        (
            [
                "can't migrate local disk 'local:iso/x.iso': local cdrom image",
                "ERROR: migration aborted (duration 00:00:00): can't migrate VM - check log",
            ],
            "can't migrate local disk 'local:iso/x.iso'",
        ),
        ([], ""),
    ],
)
def test_why_a_migration_was_aborted_is_said(lines, why):
    begun = "2026-11-28 10:00:00 starting migration of VM 100 to node 'pve2' (192.0.2.2)"
    log = [begun, *(f"2026-11-28 10:00:01 {line}" for line in lines)]
    error = classify_task_error("migration aborted", log)
    assert type(error) is Rejected
    assert error.message.startswith(f"migration aborted: {why}" if why else "migration aborted")


def test_a_silent_status_without_a_log_is_still_said():
    error = classify_task_error("start failed: QEMU exited with code 1", ["TASK ERROR: same"])
    assert type(error) is Rejected
    assert error.message == "start failed: QEMU exited with code 1"


def test_a_worker_that_died_leaves_the_outcome_unknown():
    assert type(classify_task_error("unexpected status")) is OutcomeUnknown


@pytest.mark.parametrize("status", [502, 503, 504, 596, 597, 598, 599])
def test_the_proxy_layer_loses_a_question_but_leaves_a_change_unknown(status):
    assert type(classify(status, "", None, method="GET")) is Unreachable
    for method in ("POST", "PUT", "DELETE"):
        assert type(classify(status, "", None, method=method)) is OutcomeUnknown


def test_a_request_that_never_reached_the_node_changed_nothing():
    for method in ("GET", "POST", "PUT", "DELETE"):
        error = classify(595, "Connection refused", None, method=method)
        assert type(error) is Unreachable
        assert error.message == "Connection refused"


@pytest.mark.parametrize(
    "text",
    [
        "cfs-lock 'storage-ceph' error: got lock request timeout",
        "error during cfs-locked 'storage-ceph' operation: got lock timeout - aborting command",
    ],
)
def test_a_storage_lock_that_times_out_is_waited_for(text):
    error = classify_task_error(f"clone failed: {text}")
    assert isinstance(error, Locked)
    assert error.lock is None


def test_a_cluster_without_quorum_is_asked_again():
    assert type(classify(500, "cluster not ready - no quorum?", None, method="POST")) is Unreachable


def test_a_container_that_exists_is_a_guest_too():
    error = classify(500, "CT 105 already exists on node 'pve1'", None, method="POST")
    assert isinstance(error, Conflict)
    assert (error.reason, error.what) == ("exists", "guest")


def test_only_a_taken_vmid_is_a_guest_that_exists():
    taken = refusal(by_name("391-clone-newid-exists"))
    name_used = classify_task_error("snapshot name 'clean' already used")
    assert isinstance(taken, Conflict)
    assert isinstance(name_used, Conflict)
    assert (taken.reason, taken.what) == ("exists", "guest")
    assert (name_used.reason, name_used.what) == ("exists", None)


def test_a_missing_privilege_names_its_path():
    error = refusal(by_name("028-limited-token-storage-403"))
    assert isinstance(error, Forbidden)
    assert error.path == "/storage/local"
    assert error.privilege == "Datastore.Audit|Datastore.AllocateSpace"


def test_a_403_is_forbidden_whatever_it_says():
    assert type(classify(403, "no way", None, method="GET")) is Forbidden


def test_what_is_wrong_with_parameters_is_said():
    error = refusal(by_name("280-resize-bad-size"))
    assert isinstance(error, Rejected)
    assert error.message == "Parameter verification failed."
    assert str(error) == (
        "Parameter verification failed. size: value does not match the regex pattern"
    )


@pytest.mark.parametrize(
    "error",
    [
        Locked("locked", status=500, lock="backup"),
        NotFound("gone", status=500, what="guest"),
        Conflict("there", status=500, reason="exists", what="guest"),
        Rejected("no", status=400, errors={"size": "bad"}),
        Forbidden("no", status=403, privilege="VM.Audit", path="/vms/100"),
        Unauthorized("who", status=401),
    ],
)
def test_errors_survive_a_copy(error):
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)
