"""Whatever is sent, the answer is a problem that names what is wrong, and nothing has changed."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.utils import timezone

from clusters.models import UNREACHABLE, Cluster
from tests.api.shapes import fields_of, problem_of
from tests.api.table import API
from tests.api.wrong import NO_LISTS, NO_OBJECTS, WRONG_FLAGS, WRONG_NUMBERS, WRONG_TEXTS
from tests.conftest import SSH_KEY

pytestmark = pytest.mark.django_db

GOOD: dict[str, Any] = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 512}
LONG_KEY = "ssh-ed25519 " + "A" * 16_400
RSA_HEAD = "AAAAB3NzaC1yc2EAAAADAQABAAAB"


def init(**values: Any) -> dict[str, Any]:
    return {"cloud_init": values}


# (the field that is named, what is sent in place of GOOD's)
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
    ("cloud_init.ssh_keys", init(ssh_keys=[f"{SSH_KEY} {'x' * 16_000}"] * 20)),
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
            f"{SSH_KEY}\u2028once",
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
        assert f"{field}: " in body["detail"], (changes, body["detail"])


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


def test_refresh_takes_a_truth_value(operator_calls, unchanged):
    body = problem_of(operator_calls.get(f"{API}/vms/100?refresh=maybe"), 400)
    assert fields_of(body) == ["refresh"]
