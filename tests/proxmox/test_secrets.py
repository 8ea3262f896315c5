"""Secrets stay out of every text that a person or a log could see."""

from __future__ import annotations

import logging
import traceback

import pytest

from proxmox import OutcomeUnknown, Password, ProxmoxError, Rejected, Token, Unauthorized, Upid
from proxmox.auth import Ticket
from tests.proxmox.server import Drop, Say, data

SECRET = "hunter2-5f1c"
LIBRARIES = ["proxmoxer", "proxmoxer.core", "urllib3", "urllib3.connectionpool", "requests"]


@pytest.fixture
def loud(caplog):
    """Every logger says everything that it has to say."""
    caplog.set_level(logging.DEBUG)
    for name in LIBRARIES:
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def test_credentials_do_not_show_themselves(connect):
    for credentials in (Token("izvor@pve", "api", SECRET), Password("root@pam", SECRET)):
        client = connect("https://127.0.0.1:1", credentials=credentials)
        for thing in (credentials, client, vars(client).values()):
            assert SECRET not in repr(thing)
            assert SECRET not in str(thing)
    assert SECRET not in repr(Ticket(SECRET, SECRET, 0.0))


def test_a_client_says_who_it_is(connect):
    client = connect("https://pve1:8006", "https://pve2:8006")
    assert repr(client) == "<Client izvor@pve at pve1:8006, pve2:8006>"


def test_nothing_secret_is_logged(serve, connect, loud):
    def answer(seen):
        if seen.path.endswith("/ticket"):
            return data({"ticket": f"PVE:{SECRET}", "CSRFPreventionToken": SECRET})
        return data(None)

    client = connect(serve(answer), credentials=Password("root@pam", SECRET))
    client.update_config("pve1", 100, changes={"cipassword": SECRET, "sshkeys": SECRET})
    client.vmid_is_free(100)
    assert SECRET not in loud.text
    assert {record.name for record in loud.records} <= {"proxmox.calls"}


def test_a_lost_answer_does_not_repeat_what_was_sent(serve, connect):
    client = connect(serve(lambda seen: Drop()), credentials=Token("izvor@pve", "api", SECRET))
    with pytest.raises(OutcomeUnknown) as raised:
        client.update_config("pve1", 100, changes={"cipassword": SECRET})
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_an_error_does_not_repeat_a_password_that_proxmox_repeats(serve, connect):
    body = {"data": None, "errors": {"cipassword": f"got '{SECRET}'"}, "message": "no\n"}
    client = connect(serve(lambda seen: Say(body, 400, f"no {SECRET}")))
    with pytest.raises(Rejected) as raised:
        client.update_config("pve1", 100, changes={"cipassword": SECRET})
    assert raised.value.errors == {"cipassword": "got '…'"}
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_refused_login_does_not_repeat_the_password(serve, connect):
    client = connect(
        serve(lambda seen: Say("", 401, f"wrong: {SECRET}")),
        credentials=Password("root@pam", SECRET),
    )
    with pytest.raises(Unauthorized) as raised:
        client.version()
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_console_ticket_does_not_show_itself(serve, connect):
    answer = {
        "ticket": SECRET,
        "port": "5900",
        "user": "root@pam",
        "password": SECRET,
        "upid": "UPID:pve1:00000393:00053BA0:6B03FB9B:vncproxy:100:root@pam:",
    }
    ticket = connect(serve(lambda seen: data(answer))).vncproxy("pve1", 100)
    assert ticket.password == SECRET
    assert SECRET not in repr(ticket)


SIGNED = f"https://s3.example:9000/images/debian.qcow2?X-Amz-Date=1&X-Amz-Signature={SECRET}"
UPID = "UPID:pve1:00000393:00053BA0:6B03FB9B:download:x.qcow2:root@pam:"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            f"downloading {SIGNED} to /x",
            "downloading https://s3.example:9000/images/debian.qcow2?… to /x",
        ),
        (
            f"Location: {SIGNED} [following]",
            "Location: https://s3.example:9000/images/debian.qcow2?… [following]",
        ),
        (
            f"download of '{SIGNED}' to '/x' finished",
            "download of 'https://s3.example:9000/images/debian.qcow2?…' to '/x' finished",
        ),
        (f"--1--  https://me:{SECRET}@host/x", "--1--  https://host/x"),
        (f"http://[::1]:80/x#{SECRET}", "http://[::1]:80/x#…"),
        ("Connecting to 127.0.0.1:9... failed", "Connecting to 127.0.0.1:9... failed"),
        ("https://host/a/b.qcow2:", "https://host/a/b.qcow2:"),
    ],
)
def test_a_url_in_a_tasks_log_is_cut_down_to_host_and_path(said, shown, serve, connect):
    log = connect(serve(lambda seen: data([{"n": 1, "t": said}])))
    assert log.task_log(Upid.parse(UPID)) == [shown]
    ended = {"upid": UPID, "status": "stopped", "exitstatus": said}
    status = connect(serve(lambda seen: data(ended))).task_status(Upid.parse(UPID))
    assert status.exit_status == shown
    listed = {"upid": UPID, "status": said, "endtime": 1}
    (entry,) = connect(serve(lambda seen: data([listed]))).tasks("pve1")
    assert entry.exit_status == shown


def test_a_refused_download_does_not_repeat_its_url(serve, connect):
    body = {"data": None, "errors": {"url": f"cannot be: {SIGNED}"}, "message": "no\n"}
    client = connect(serve(lambda seen: Say(body, 400, f"no {SIGNED}&more")))
    with pytest.raises(Rejected) as raised:
        client.download_url("pve1", "local", url=SIGNED, filename="x.qcow2", content="import")
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_every_error_is_of_our_tree(serve, connect):
    """proxmoxer's and urllib3's exceptions end at the wrapper."""
    for behaviour in (Drop(), Say("", 500, "odd"), Say("x", 200), Say("", 302), Say("", 418)):
        client = connect(serve(lambda seen, what=behaviour: what))
        for call in (client.version, lambda c=client: c.start("pve1", 100)):
            with pytest.raises(ProxmoxError):
                call()
