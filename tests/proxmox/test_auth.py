"""Tokens, tickets, their renewal, CSRF, and logins that are refused."""

from __future__ import annotations

import threading

import pytest

from proxmox import Forbidden, OutcomeUnknown, Password, Token, Unauthorized, Unreachable
from proxmox.auth import RENEW_AFTER_S, TRUST_UNTIL_S, PasswordIdentity, Ticket
from proxmox.deadline import Deadline
from tests.proxmox.recording import by_name
from tests.proxmox.server import Drop, Say, Seen, data

UPID = "UPID:pve1:00000174:0005354B:6B03FB8B:qmstart:9000:root@pam:"
VERSION = data({"version": "8.4.21", "release": "8.4"})
ROOT = Password("root@pam", "correct horse")
REFUSED = Say("", 401, "Authentication failed!")


class Proxmox:
    """Sells numbered tickets for the password or any ticket it sold, and checks them."""

    def __init__(self) -> None:
        self.logins: list[dict[str, str]] = []
        self.valid: set[str] = set()

    def __call__(self, seen: Seen):
        if seen.path.endswith("/access/ticket"):
            return self.log_in(seen)
        cookie = seen.headers.get("Cookie", "")
        if cookie.removeprefix("PVEAuthCookie=") not in self.valid:
            return REFUSED
        number = cookie[-8:]
        if seen.method != "GET" and seen.headers.get("CSRFPreventionToken") != f"csrf-{number}":
            return Say("", 401, "Permission denied - invalid csrf token")
        return VERSION if seen.method == "GET" else data(UPID)

    def log_in(self, seen: Seen):
        self.logins.append(seen.form)
        if seen.form["password"] not in {"correct horse", *self.valid}:
            refusal = by_name("006-ticket-bad-password")
            return Say(refusal.body, refusal.status, refusal.reason)
        number = f"{len(self.logins):08}"
        ticket = f"PVE:root@pam:6B03FB0F::a+b/c==:{number}"
        self.valid = {ticket}
        return data(
            {
                "ticket": ticket,
                "CSRFPreventionToken": f"csrf-{number}",
                "username": "root@pam",
            }
        )


def test_a_token_goes_with_every_call_and_needs_no_csrf(serve, connect):
    server = serve(lambda seen: VERSION if seen.method == "GET" else data(UPID))
    client = connect(server, credentials=Token("izvor@pve", "api", "s3cret"))
    client.version()
    client.start("pve1", 100)
    for seen in server.seen:
        assert seen.headers["Authorization"] == "PVEAPIToken=izvor@pve!api=s3cret"
        assert "CSRFPreventionToken" not in seen.headers
        assert "Cookie" not in seen.headers


def test_a_refused_token_is_not_tried_again(serve, connect):
    server = serve(lambda seen: REFUSED)
    with pytest.raises(Unauthorized, match="Authentication failed!"):
        connect(server).version()
    assert len(server.seen) == 1


def test_a_password_buys_one_ticket_for_many_calls(serve, connect):
    proxmox = Proxmox()
    server = serve(proxmox)
    client = connect(server, credentials=ROOT)
    assert server.seen == []
    client.version()
    client.version()
    client.start("pve1", 100)
    assert proxmox.logins == [{"username": "root@pam", "password": "correct horse"}]


def test_changes_carry_the_csrf_token_and_questions_do_not(serve, connect):
    server = serve(Proxmox())
    client = connect(server, credentials=ROOT)
    client.version()
    client.start("pve1", 100)
    client.delete_guest("pve1", 100)
    _, question, *changes = server.seen
    assert "CSRFPreventionToken" not in question.headers
    assert [seen.headers["CSRFPreventionToken"] for seen in changes] == ["csrf-00000001"] * 2


def test_a_ticket_that_is_refused_is_bought_anew_once(serve, connect):
    proxmox = Proxmox()
    server = serve(proxmox)
    client = connect(server, credentials=ROOT)
    client.version()
    proxmox.valid.clear()
    # A 401 means that nothing was done, so a change too is made again.
    assert str(client.start("pve1", 100)) == UPID
    assert [login["password"] for login in proxmox.logins] == ["correct horse"] * 2


def test_a_call_that_stays_refused_ends_after_one_more_login(serve, connect):
    proxmox = Proxmox()

    def answer(seen: Seen):
        return proxmox(seen) if seen.path.endswith("/ticket") else REFUSED

    server = serve(answer)
    with pytest.raises(Unauthorized):
        connect(server, credentials=ROOT).version()
    assert len(proxmox.logins) == 2


def test_a_wrong_password_is_not_tried_by_every_thread(serve, connect):
    proxmox = Proxmox()
    server = serve(proxmox)
    client = connect(server, credentials=Password("root@pam", "wrong"))
    failures: list[Unauthorized] = []

    def ask() -> None:
        try:
            client.version()
        except Unauthorized as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 8
    assert {error.message for error in failures} == {"authentication failure"}
    assert len(proxmox.logins) == 1


def test_a_lost_login_answer_is_asked_for_again_and_is_no_unknown_outcome(serve, connect):
    proxmox = Proxmox()
    drops = [Drop()]
    server = serve(lambda seen: drops.pop() if drops else proxmox(seen))
    assert str(connect(server, credentials=ROOT).start("pve1", 100)) == UPID


def test_a_login_that_nobody_answers_is_unreachable(serve, connect):
    server = serve(lambda seen: Drop())
    with pytest.raises(Unreachable) as raised:
        connect(server, credentials=ROOT).start("pve1", 100)
    assert not isinstance(raised.value, OutcomeUnknown)


def test_a_second_factor_is_said(serve, connect):
    server = serve(lambda seen: data({"NeedTFA": 1, "ticket": "PVE:!tfa!", "username": "root@pam"}))
    with pytest.raises(Unauthorized, match="second factor"):
        connect(server, credentials=ROOT).version()


def test_a_missing_right_is_no_reason_to_log_in(serve, connect):
    proxmox = Proxmox()
    refusal = by_name("539-reader-start-403")

    def answer(seen: Seen):
        if seen.path.endswith("/ticket"):
            return proxmox(seen)
        return Say(refusal.body, refusal.status, refusal.reason)

    server = serve(answer)
    with pytest.raises(Forbidden, match=r"VM\.PowerMgmt"):
        connect(server, credentials=ROOT).start("pve1", 101)
    assert len(proxmox.logins) == 1


# -- renewal, with a clock of our own --------------------------------------------------------------


class Counter:
    """A login that numbers its tickets and notes what it was paid with."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.paid_with: list[str] = []
        self.refuse: set[str] = set()
        self.gate: threading.Event | None = None
        self.entered = threading.Event()

    def __call__(self, user: str, password: str, deadline: Deadline) -> Ticket:
        self.paid_with.append(password)
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(10)
        if password in self.refuse:
            raise Unauthorized("authentication failure", status=401)
        return Ticket(f"ticket-{len(self.paid_with)}", "csrf", self.now)

    def identity(self) -> PasswordIdentity:
        return PasswordIdentity(ROOT, self, clock=lambda: self.now)


def cookie(identity: PasswordIdentity) -> str:
    return identity.headers("GET", Deadline(10))["Cookie"]


def test_a_ticket_is_renewed_with_itself_before_it_ends():
    login = Counter()
    identity = login.identity()
    cookie(identity)
    login.now += RENEW_AFTER_S - 1
    assert cookie(identity) == "PVEAuthCookie=ticket-1"
    login.now += 2
    assert cookie(identity) == "PVEAuthCookie=ticket-2"
    assert login.paid_with == ["correct horse", "ticket-1"]


def test_a_ticket_near_its_end_is_not_trusted_to_renew():
    login = Counter()
    identity = login.identity()
    cookie(identity)
    login.now += TRUST_UNTIL_S
    assert cookie(identity) == "PVEAuthCookie=ticket-2"
    assert login.paid_with == ["correct horse", "correct horse"]


def test_a_renewal_that_is_refused_falls_back_to_the_password():
    login = Counter()
    identity = login.identity()
    cookie(identity)
    login.refuse.add("ticket-1")
    login.now += RENEW_AFTER_S
    assert cookie(identity) == "PVEAuthCookie=ticket-3"
    assert login.paid_with == ["correct horse", "ticket-1", "correct horse"]


def test_the_others_go_on_with_the_old_ticket_while_one_renews():
    login = Counter()
    identity = login.identity()
    cookie(identity)
    login.now += RENEW_AFTER_S
    login.gate = threading.Event()
    login.entered.clear()
    renewing = threading.Thread(target=cookie, args=(identity,))
    renewing.start()
    assert login.entered.wait(10)
    assert cookie(identity) == "PVEAuthCookie=ticket-1"
    login.gate.set()
    renewing.join()
    assert cookie(identity) == "PVEAuthCookie=ticket-2"
    assert len(login.paid_with) == 2


def test_a_refused_login_is_tried_again_after_a_while():
    login = Counter()
    identity = login.identity()
    login.refuse.add("correct horse")
    for _ in range(3):
        with pytest.raises(Unauthorized):
            cookie(identity)
    assert len(login.paid_with) == 1
    login.refuse.clear()
    login.now += 11
    assert cookie(identity) == "PVEAuthCookie=ticket-2"


def test_a_refusal_of_an_older_ticket_does_not_forget_the_new_one():
    login = Counter()
    identity = login.identity()
    old = identity.headers("GET", Deadline(10))
    login.now += RENEW_AFTER_S
    cookie(identity)
    assert identity.was_refused(old)
    assert cookie(identity) == "PVEAuthCookie=ticket-2"


# -- what credentials look like --------------------------------------------------------------------


def test_a_token_is_read_as_proxmox_writes_it():
    assert Token.parse("izvor@pve!api", "s3cret") == Token("izvor@pve", "api", "s3cret")


@pytest.mark.parametrize(
    ("user", "token_id", "secret"),
    [
        ("izvor", "api", "hunter2"),
        ("izvor@pve!api", "api", "hunter2"),
        ("izvor@pve", "", "hunter2"),
        ("izvor@pve", "a b", "hunter2"),
        ("izvor@pve", "api", ""),
        ("izvor@pve", "api", "hunter2\r\nX-Evil: 1"),
        ("izvor@pve", "api", "hunter2 "),
    ],
)
def test_a_token_is_refused_without_repeating_it(user, token_id, secret):
    with pytest.raises(ValueError, match="Proxmox") as raised:
        Token(user, token_id, secret)
    assert "hunter2" not in str(raised.value)


def test_a_password_needs_a_realm():
    with pytest.raises(ValueError, match="name@realm"):
        Password("root", "hunter2")
    with pytest.raises(ValueError, match="empty"):
        Password("root@pam", "")
