"""Whatever is sent, the answer is a problem that names what is wrong, and nothing has changed."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.utils import timezone

from clusters.models import UNREACHABLE, Cluster
from events.models import Event
from operations.models import Claim, Operation
from tests.api.shapes import fields_of, problem_of
from tests.conftest import SSH_KEY
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db

API = "/api/v1"
GOOD: dict[str, Any] = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 512}
LONG_KEY = "ssh-ed25519 " + "A" * 16_400
RSA_HEAD = "AAAAB3NzaC1yc2EAAAADAQABAAAB"


@pytest.fixture
def unchanged(cluster: Cluster, sim: Any) -> Iterator[None]:
    """No row and no call that changes anything comes out of the test."""
    before = list(VirtualMachine.objects.order_by("pk").values())
    events = Event.objects.count()
    sim.forget_calls()
    yield
    assert list(VirtualMachine.objects.order_by("pk").values()) == before
    assert not Operation.objects.exists()
    assert not Claim.objects.exists()
    assert Event.objects.count() == events
    assert [call for call in sim.calls if call.method != "GET"] == []


def init(**values: Any) -> dict[str, Any]:
    return {"cloud_init": values}


WRONG_TEXTS: list[Any] = [7, True, ["x"], {"x": 1}, None, 1.5]
WRONG_NUMBERS: list[Any] = ["2", True, 1.5, [2], {}, None]
WRONG_FLAGS: list[Any] = ["true", 1, None, [], {}]
# (the field that is named, what is sent in place of GOOD's)
NO_LISTS: list[Any] = ["web", 1, None, {"a": "b"}]
NO_OBJECTS: list[Any] = ["x", 1, None, ["a"]]
BAD: list[tuple[str, dict[str, Any]]] = [
    # missing
    ("name", {"name": ...}),
    ("template", {"template": ...}),
    # of another type
    *[("name", {"name": value}) for value in WRONG_TEXTS],
    *[("template", {"template": value}) for value in (True, ["x"], {"x": 1}, None, 1.5)],
    *[
        (field, {field: value})
        for field in (
            "size",
            "node",
            "cluster",
            "network",
            "storage",
            "ip_config",
            "description",
        )
        for value in WRONG_TEXTS
    ],
    *[
        (field, {field: value})
        for field in ("cores", "memory", "disk_size")
        for value in WRONG_NUMBERS
    ],
    *[
        (field, {field: value})
        for field in ("linked", "start_on_create", "protected", "keep")
        for value in WRONG_FLAGS
    ],
    *[("tags", {"tags": value}) for value in NO_LISTS],
    *[("tags[0]", {"tags": [value]}) for value in (1, None, ["a"])],
    *[("metadata", {"metadata": value}) for value in NO_OBJECTS],
    *[("metadata.key", {"metadata": {"key": value}}) for value in (1, None, ["a"], {"x": 1})],
    *[("cloud_init", {"cloud_init": value}) for value in NO_OBJECTS],
    *[
        (f"cloud_init.{field}", init(**{field: value}))
        for field in ("user", "password", "ip_config", "gateway", "searchdomain")
        for value in WRONG_TEXTS
    ],
    *[("cloud_init.ssh_keys", init(ssh_keys=value)) for value in (SSH_KEY, 1, None, {"x": 1})],
    *[("cloud_init.ssh_keys[1]", init(ssh_keys=[SSH_KEY, value])) for value in (1, None, [1])],
    *[("cloud_init.dns", init(dns=value)) for value in ("192.0.2.1", 1, None)],
    # too long, too short, out of bounds
    ("name", {"name": "a"}),
    ("name", {"name": "a" * 64}),
    ("name", {"name": ""}),
    ("template", {"template": ""}),
    ("template", {"template": "x" * 256}),
    ("size", {"size": "x" * 41}),
    ("node", {"node": "x" * 64}),
    ("cluster", {"cluster": "x" * 64}),
    ("network", {"network": "x" * 41}),
    ("storage", {"storage": "x" * 101}),
    ("description", {"description": "x" * 4097}),
    ("tags", {"tags": ["x"] * 51}),
    ("tags[0]", {"tags": ["x" * 101]}),
    ("metadata", {"metadata": {f"k{i}": "v" for i in range(65)}}),
    ("metadata", {"metadata": {"x" * 129: "v"}}),
    ("metadata", {"metadata": {"": "v"}}),
    ("metadata.key", {"metadata": {"key": "x" * 1025}}),
    ("cloud_init.user", init(user="x" * 33)),
    ("cloud_init.password", init(password="x" * 1025)),
    ("cloud_init.ssh_keys[0]", init(ssh_keys=[LONG_KEY])),
    ("cloud_init.ssh_keys", init(ssh_keys=[SSH_KEY] * 51)),
    ("cloud_init.dns", init(dns=["192.0.2.1"] * 7)),
    *[("cores", {"cores": value}) for value in (0, -1, 129, 10**30)],
    *[("memory", {"memory": value}) for value in (0, 255, 524_289, 10**30)],
    *[("disk_size", {"disk_size": value}) for value in (0, -5, 10_241, 10**30)],
    # unknown fields
    ("ram", {"ram": 512}),
    ("Name", {"Name": "web"}),
    ("cloud_init.sshkeys", init(sshkeys=[SSH_KEY])),
    ("cloud_init.user-data", {"cloud_init": {"user-data": "x"}}),
    # names that are none
    *[
        ("name", {"name": value})
        for value in (
            "my server",
            "-web",
            "web-",
            "a..b",
            ".web",
            "web.",
            "web_1",
            "wéb",
            "../web",
            "web?x",
            "web;rm",
            "💥💥",
            "a" * 63 + ".b",
        )
    ],
    *[("network", {"network": value}) for value in ("vmbr0,tag=1", "0br", "br 0", "../x", "é")],
    *[("tags[0]", {"tags": [value]}) for value in ("a b", "a;b", "-a", "", "é", "a,b")],
    *[("cloud_init.user", init(user=value)) for value in ("0root", "a b", "a:b", "", "é")],
    *[
        ("cloud_init.searchdomain", init(searchdomain=value))
        for value in ("a b", "..", "-a.example", "a,b")
    ],
    *[("cloud_init.dns[0]", init(dns=[value])) for value in ("dns.example", "1.2.3", "", "::g")],
    # keys that are none
    *[
        ("cloud_init.ssh_keys[0]", init(ssh_keys=[value]))
        for value in (
            "ssh-rsa AAAA...",
            "ssh-rsa",
            "ssh-rsa AAAA",
            f"ssh-rsa {RSA_HEAD}",
            "ssh-dss AAAAB3NzaC1kc3MAAACBAP",
            SSH_KEY.replace("ssh-ed25519", "ssh-rsa"),
            SSH_KEY[:-24],
            f"{SSH_KEY}\n{SSH_KEY}",
            f'command="rm -rf /" {SSH_KEY}',
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "",
        )
    ],
    # addresses that cannot be
    *[
        (field, body)
        for value in (
            "dhcp",
            "ip=",
            "ip=192.0.2.10",
            "ip=192.0.2.300/24",
            "ip=192.0.2.10/33",
            "ip=2001:db8::1/64",
            "ip6=192.0.2.10/24",
            "ip=192.0.2.10/24,gw=198.51.100.1",
            "ip=192.0.2.10/24,gw=x",
            "ip=192.0.2.10/24,gw=2001:db8::1",
            "ip=dhcp,gw=192.0.2.1",
            "gw=192.0.2.1",
            "ip=dhcp,ip=dhcp",
            "ip=auto",
            "ip=dhcp,mtu=9000",
            "ip6=2001:db8::5/64,gw6=2001:db9::1",
            "",
            " , ",
        )
        for field, body in (
            ("ip_config", {"ip_config": value}),
            ("cloud_init.ip_config", init(ip_config=value)),
        )
    ],
    ("cloud_init.gateway", init(ip_config="ip=192.0.2.10/24", gateway="nope")),
    ("cloud_init.ip_config", init(ip_config="ip=192.0.2.10/24", gateway="198.51.100.1")),
    (
        "cloud_init.ip_config",
        init(ip_config="ip=192.0.2.10/24,gw=192.0.2.1", gateway="192.0.2.2"),
    ),
    ("cloud_init.ip_config", init(gateway="192.0.2.1")),
    # things that disagree
    ("ip_config", {"ip_config": "ip=dhcp", **init(ip_config="ip=192.0.2.10/24")}),
    ("storage", {"linked": True, "storage": "ceph"}),
    # things that do not exist
    ("template", {"template": "no-such"}),
    ("template", {"template": "99999"}),
    ("template", {"template": 99999}),
    ("template", {"template": -1}),
    ("template", {"template": "9" * 200}),
    ("template", {"template": "²"}),
    ("template", {"template": "100"}),
    ("size", {"size": "no-such"}),
    ("node", {"node": "no-such"}),
    ("cluster", {"cluster": "no-such"}),
    ("storage", {"storage": "no-such"}),
    # things that do not fit
    ("memory", {"memory": 524_288}),
    ("disk_size", {"disk_size": 1}),
]


def sent(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}


@pytest.mark.parametrize("field", dict.fromkeys(field for field, _ in BAD))
def test_bad_input_is_a_400_that_names_the_field(field, operator_calls, unchanged):
    for changes in (changes for named, changes in BAD if named == field):
        body = problem_of(operator_calls.post(f"{API}/vms", sent(changes)), 400)
        assert field in fields_of(body), (changes, body["errors"])


def test_all_wrong_fields_are_named_at_once(operator_calls, unchanged):
    body = problem_of(
        operator_calls.post(f"{API}/vms", {"name": "-", "cores": 0, "cloud_init": {"user": "0"}}),
        400,
    )
    assert {"name", "template", "cores", "cloud_init.user"} <= set(fields_of(body))


def test_a_template_name_that_exists_twice_is_refused(operator_calls, cluster, unchanged):
    cluster.templates.filter(vmid=9001).update(name="ubuntu-22.04")
    body = problem_of(operator_calls.post(f"{API}/vms", GOOD), 400, "template_ambiguous")
    assert fields_of(body) == ["template"]
    assert "9000" in body["detail"]
    assert "9001" in body["detail"]
    problem_of(operator_calls.get(f"{API}/templates/ubuntu-22.04"), 409, "template_ambiguous")


def test_cloud_init_for_a_template_without_a_drive_is_refused(operator_calls, cluster, unchanged):
    cluster.templates.filter(vmid=9000).update(has_cloud_init=False)
    body = problem_of(operator_calls.post(f"{API}/vms", {**GOOD, **init(user="admin")}), 400)
    assert fields_of(body) == ["cloud_init"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"template": "rocky-9", "node": "pve", "linked": True}, "template_not_there"),
        ({"node": "pve", "network": "vmbr77"}, "node_unsuitable"),
        ({"network": "vmbr77"}, "no_node"),
        ({"storage": "local"}, "no_node"),
        ({"disk_size": 10_240}, "no_node"),
    ],
)
def test_what_no_node_can_take_is_refused_with_each_reason(
    changes, code, operator_calls, unchanged
):
    body = problem_of(operator_calls.post(f"{API}/vms", {**GOOD, **changes}), 409, code)
    assert "pve" in body["detail"]


def test_a_cluster_known_to_be_silent_is_a_503(operator_calls, cluster, unchanged):
    silent = {"state": UNREACHABLE, "error": "no route to host"}
    since = timezone.now() - datetime.timedelta(minutes=2)
    Cluster.objects.filter(pk=cluster.pk).update(seen_at=since, **silent)
    body = problem_of(operator_calls.post(f"{API}/vms", GOOD), 503, "cluster_unavailable")
    assert "no route to host" in body["detail"]


def test_a_cluster_that_has_just_gone_is_a_503(operator_calls, cluster, unchanged):
    # Nothing listens there, and inventory has not noticed yet.
    Cluster.objects.filter(pk=cluster.pk).update(endpoints=["https://127.0.0.1:1"])
    problem_of(operator_calls.post(f"{API}/vms", GOOD), 503, "cluster_unavailable")
    problem_of(operator_calls.get(f"{API}/vms/100?refresh=true"), 503, "proxmox_unreachable")


def test_credentials_that_cannot_be_read_are_a_503(operator_calls, cluster, unchanged):
    Cluster.objects.filter(pk=cluster.pk).update(sealed_secret="sealed with another key")
    problem_of(operator_calls.post(f"{API}/vms", GOOD), 503, "secret_unreadable")
    problem_of(operator_calls.get(f"{API}/vms/100?refresh=true"), 503, "secret_unreadable")


# --- bodies ---

DEEP = 100_000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"nonsense", 400),
        (b'{"name": "web",}', 400),
        (b"{'name': 'web'}", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"web"', 400),
        (b"7", 400),
        (b"\xff\xfe\x00", 400),
        (b'{"name": "\xe9"}', 400),
        (b'{"name": NaN, "template": "ubuntu-22.04"}', 400),
        (b'{"name": "web", "template": "ubuntu-22.04", "cores": Infinity}', 400),
        (b'{"name": "web", "template": "ubuntu-22.04", "cores": 1e999}', 400),
        (b'{"name": "web", "template": "ubuntu-22.04", "cores": ' + b"9" * 10_000 + b"}", 400),
        (b'{"name": "web", "template": ' + b"9" * 10_000 + b"}", 400),
        (b'{"name": "web", "template": ' + b"9" * 4_000 + b"}", 400),
        (b'{"template": ' + b"[" * DEEP + b"]" * DEEP + b"}", 400),
        (b"[" * DEEP, 400),
        (b'{"a":' * DEEP, 400),
        (b'{"metadata": {"\\ud800": "x"}}', 400),
        (b'{"\\udfff": "x"}', 400),
        (b'{"\\u0000": "x"}', 400),
        (b'{"description": "' + b"x" * 1024 * 1024 + b'"}', 413),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else str(value),
)
def test_a_body_that_cannot_be_read_is_refused(body, status, operator_calls, unchanged):
    problem_of(operator_calls.post(f"{API}/vms", body), status)
    problem_of(operator_calls.post(f"{API}/vms/100/actions", body), status)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/xml",
        "nonsense",
        "",
    ],
)
def test_a_body_of_another_type_is_refused(content_type, operator_calls, unchanged):
    body = json.dumps(GOOD).encode()
    answer = operator_calls.post(f"{API}/vms", body, content_type=content_type)
    problem_of(answer, 415, "not_json")


@pytest.mark.parametrize("charset", ["utf-7", "rot13", "hex", "nonsense", "utf-16"])
def test_another_charset_changes_nothing(charset, operator_calls, unchanged):
    body = json.dumps({**GOOD, "cores": 0}).encode()
    answer = operator_calls.post(
        f"{API}/vms", body, content_type=f"application/json; charset={charset}"
    )
    assert fields_of(problem_of(answer, 400)) == ["cores"]


# --- hostile texts, everywhere a text can stand ---

HOSTILE = [
    "../../../etc/passwd",
    "..",
    "a?b=c#d",
    "a\x00b",
    "\x00",
    "💥",
    "\ud800",
    "\udfff\ud800",
    "a\r\nX-Evil: 1",
    "'; DROP TABLE vms_virtualmachine; --",
    "%00",
    "%2e%2e%2f",
    "{{7*7}}",
    "\u202e",
    "<script>",
    "x" * 5000,
    "٣٠٠",
    "1e9",
    "-1",
    "0",
    "99999999999999999999",
]
TEXT_FIELDS = [
    "name",
    "template",
    "size",
    "node",
    "cluster",
    "network",
    "storage",
    "ip_config",
    "tags[0]",
    "cloud_init.user",
    "cloud_init.ssh_keys[0]",
    "cloud_init.ip_config",
    "cloud_init.gateway",
    "cloud_init.dns[0]",
    "cloud_init.searchdomain",
]
# What a text may be, and is then kept to the letter.
FREE_FIELDS = ["description", "metadata.key", "cloud_init.password"]


def body_with(field: str, value: Any) -> dict[str, Any]:
    head, _, tail = field.partition(".")
    if tail:
        return sent({head: body_with_inner(tail, value)})
    return sent(body_with_inner(head, value))


def body_with_inner(field: str, value: Any) -> dict[str, Any]:
    return {field[:-3]: [value]} if field.endswith("[0]") else {field: value}


@pytest.mark.parametrize("field", TEXT_FIELDS)
def test_hostile_texts_are_refused_in_every_field(field, operator_calls, unchanged):
    harmless = {
        ("name", "99999999999999999999"),
        *((tag, word) for tag in ("tags[0]",) for word in ("1e9", "0", "99999999999999999999")),
        ("cloud_init.searchdomain", "1e9"),
        ("cloud_init.searchdomain", "0"),
        ("cloud_init.searchdomain", "99999999999999999999"),
        ("name", "1e9"),
    }
    for text in HOSTILE:
        if (field, text) in harmless:
            continue
        body = problem_of(operator_calls.post(f"{API}/vms", body_with(field, text)), 400)
        assert field in fields_of(body), (text, body["errors"])


@pytest.mark.parametrize("field", FREE_FIELDS)
@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "ok\udfff"], ids=ascii)
def test_texts_that_cannot_be_stored_are_refused(field, text, operator_calls, unchanged):
    body = problem_of(operator_calls.post(f"{API}/vms", body_with(field, text)), 400)
    assert fields_of(body) == [field]


PATHS = [
    "/vms/{}",
    "/vms/{}/actions",
    "/sizes/{}",
    "/templates/{}",
    "/tasks/{}",
    "/tasks/{}/log",
    "/tasks/{}/cancel",
    "/{}",
    "/vms/100/{}",
]


@pytest.mark.parametrize("path", PATHS)
def test_hostile_path_segments_find_nothing(path, operator_calls, unchanged):
    texts = [*HOSTILE, "UPID:", "UPID:pve:x", "UPID:pve:1:2:3:a:b:\x00:", "UPID:💥:💥", "%ff"]
    for text in texts:
        raw = "%ED%A0%80" if text.startswith(("\ud800", "\udfff")) else quote(text, safe="")
        for method in ("GET", "POST", "DELETE", "PUT", "PATCH"):
            body = {"action": "start"} if method == "POST" else None
            answer = operator_calls.ask(method, f"{API}{path.format(raw)}", body)
            assert answer.status_code in {404, 405}, (method, text, answer.content)
            problem_of(answer, answer.status_code)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/vms", ["node", "cluster", "status", "tag", "template", "name", "search", "project"]),
        ("/vms", ["limit", "cursor"]),
        ("/vms/100", ["cluster", "refresh"]),
        ("/templates", ["cluster", "name", "limit", "cursor"]),
        ("/templates/9000", ["cluster"]),
        ("/tasks", ["status", "vm", "kind", "limit", "cursor"]),
        ("/tasks/UPID:pve:0000AAAA:00BB00BB:69231234:qmstop:100:root@pam:", ["node", "cluster"]),
        ("/sizes", ["limit", "cursor"]),
    ],
    ids=str,
)
def test_hostile_query_parameters_never_break_it(path, names, operator_calls, unchanged):
    deep = "W1tb" * 6000
    for name in names:
        for text in (*HOSTILE, deep, "%ff", "%ED%A0%80"):
            raw = text if text.startswith("%") else quote(text, safe="", errors="replace")
            answer = operator_calls.get(f"{API}{path}?{name}={raw}")
            if answer.status_code != 200:
                assert answer.status_code in {400, 404}, (name, text, answer.content)
                problem_of(answer, answer.status_code)
            if "\x00" in text:
                assert fields_of(problem_of(answer, 400)) == [name]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/vms?nodes=pve", None),
        ("GET", "/vms?format=json", None),
        ("GET", "/vms/100?fresh=true", None),
        ("POST", "/vms?dryrun=true", GOOD),
        ("DELETE", "/vms/100?force=true", None),
        ("POST", "/vms/100/actions?force=true", {"action": "stop"}),
        ("GET", "/vms/sizes?name=x", None),
        ("GET", "/sizes?name=x", None),
        ("GET", "/sizes/small?x=1", None),
        ("GET", "/templates?x=1", None),
        ("GET", "/templates/9000?x=1", None),
        ("GET", "/tasks?x=1", None),
    ],
)
def test_an_unknown_parameter_is_a_400(method, path, body, operator_calls, unchanged):
    name = path.partition("?")[2].partition("=")[0]
    answer = operator_calls.ask(method, API + path, body)
    assert fields_of(problem_of(answer, 400)) == [name]


def test_refresh_takes_a_truth_value(operator_calls, unchanged):
    body = problem_of(operator_calls.get(f"{API}/vms/100?refresh=maybe"), 400)
    assert fields_of(body) == ["refresh"]


# --- actions ---


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("action", {}),
        ("action", {"action": "explode"}),
        ("action", {"action": 1}),
        ("action", {"action": None}),
        ("action", {"action": ["start"]}),
        ("action", {"action": {"start": 1}}),
        ("action", {"action": "\x00"}),
        ("verb", {"verb": "start"}),
        ("force", {"action": "start", "force": True}),
        ("force", {"action": "reboot", "force": True}),
        ("force", {"action": "stop", "force": "yes"}),
        ("timeout", {"action": "stop", "timeout": 0}),
        ("timeout", {"action": "stop", "timeout": 3601}),
        ("timeout", {"action": "stop", "timeout": "60"}),
        ("timeout", {"action": "start", "timeout": 60}),
    ],
)
def test_a_bad_action_is_a_400_that_names_the_field(field, body, operator_calls, unchanged):
    answer = operator_calls.post(f"{API}/vms/100/actions", body)
    assert field in fields_of(problem_of(answer, 400))


# --- the frame ---


@pytest.mark.parametrize("path", ["/api/nothing", "/api/", "/api", "/api/v2/vms", "/api/v1"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_route_is_a_problem(path, method, operator_calls):
    problem_of(operator_calls.ask(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/vms"), ("DELETE", "/sizes"), ("POST", "/tasks"), ("GET", "/vms/100/actions")],
)
def test_a_wrong_method_is_a_problem_that_says_which_are_right(method, path, operator_calls):
    answer = operator_calls.ask(method, API + path)
    problem_of(answer, 405, "method_not_allowed")
    assert answer["Allow"]


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*"])
def test_an_answer_in_another_type_is_not_to_be_had(accept, operator_calls):
    problem_of(operator_calls.get(f"{API}/vms", Accept=accept), 406, "not_acceptable")


def test_a_trailing_slash_is_tolerated(operator_calls, cluster):
    for path in ("/vms/", "/vms/100/", "/vms/sizes/", "/templates/", "/tasks/", "/sizes/small/"):
        assert operator_calls.get(API + path).status_code == 200


def test_a_host_that_is_not_ours_is_a_problem(operator_calls):
    problem_of(operator_calls.get(f"{API}/vms?limit=1", Host="evil.example"), 400, "malformed")


def test_a_bug_of_ours_is_a_problem_without_its_traceback(operator_calls, monkeypatch):
    def broken(*args: Any, **values: Any) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(VirtualMachine.objects.__class__, "visible_to", broken)
    answer = operator_calls.get(f"{API}/vms")
    problem_of(answer, 500, "internal_error")
    assert b"secret inside" not in answer.content
    assert b"Traceback" not in answer.content


@pytest.mark.parametrize("given", ["abc-123", "A.b_c-9", "x" * 64])
def test_a_request_id_is_echoed(given, operator_calls):
    answer = operator_calls.get(f"{API}/vms/nope", X_Request_ID=given)
    assert problem_of(answer, 404)["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", '"}{'])
def test_an_odd_request_id_is_replaced(given, operator_calls):
    answer = operator_calls.get(f"{API}/sizes", X_Request_ID=given)
    assert answer["X-Request-ID"] != given
    assert len(answer["X-Request-ID"]) == 32
