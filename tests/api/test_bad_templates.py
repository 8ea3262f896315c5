"""Bad input about templates and images: a problem that names what is wrong, nothing changed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.shapes import fields_of, problem_of
from tests.api.table import API
from tests.api.wrong import HOSTILE, NO_LISTS, WRONG_NUMBERS, WRONG_TEXTS

pytestmark = pytest.mark.django_db

SECRET = "c0ffee-signature"
URL = "https://images.example/debian.qcow2"
GOOD: dict[str, Any] = {"name": "debian-13", "url": URL}
SHA = "a" * 64
BAD: list[tuple[str, dict[str, Any]]] = [
    ("name", {"name": ...}),
    ("url", {"url": ...}),
    # of another type
    *[
        (field, {field: value})
        for field in (
            "name",
            "url",
            "format",
            "checksum",
            "checksum_algorithm",
            "os_type",
            "cluster",
            "node",
            "storage",
            "image_storage",
            "network",
            "description",
            "user",
        )
        for value in WRONG_TEXTS
    ],
    *[("volume", {"url": ..., "volume": value}) for value in WRONG_TEXTS],
    *[
        (field, {field: value})
        for field in ("cores", "memory", "disk_size")
        for value in WRONG_NUMBERS
    ],
    *[("tags", {"tags": value}) for value in NO_LISTS],
    # URLs that are none, or that a node cannot fetch
    *[
        ("url", {"url": value})
        for value in (
            "",
            "debian.qcow2",
            "/var/lib/vz/x.qcow2",
            "file:///etc/passwd",
            "ftp://images.example/x.qcow2",
            "s3://bucket/x.qcow2",
            "https://",
            "https:///x.qcow2",
            "https://images.example:99999/x.qcow2",
            "https://images.example:0/x.qcow2",
            "https://images.example:x/x.qcow2",
            "https://[::1/x.qcow2",
            "https://images.example/a b.qcow2",
            "https://images.example/é.qcow2",
            "https://images.example/x\n.qcow2",
            "https://images.example/x'.qcow2",
            'https://images.example/x".qcow2',
            "https://me:secret@images.example/x.qcow2",
            "https://images.example/x.qcow2#part",
            "https://images.example/x.qcow2.xz",
            "https://images.example/x.tar.gz",
            "https://images.example/x.iso",
            f"https://images.example/{'x' * 4096}.qcow2",
        )
    ],
    # sums that are none
    *[
        ("checksum", {"checksum": value})
        for value in ("", "x", "sha256:", f"sha256:{'g' * 64}", "a" * 63, f"md5:{SHA}", f"x:{SHA}")
    ],
    ("checksum_algorithm", {"checksum": SHA, "checksum_algorithm": "md5"}),
    ("checksum_algorithm", {"checksum": SHA, "checksum_algorithm": "crc32"}),
    ("checksum_algorithm", {"checksum_algorithm": "sha256"}),
    # things that disagree
    ("volume", {"volume": "local:import/x.qcow2"}),
    ("checksum", {"url": ..., "volume": "local:import/x.qcow2", "checksum": SHA}),
    ("format", {"url": ..., "volume": "local:import/x.qcow2", "format": "raw"}),
    ("image_storage", {"url": ..., "volume": "local:import/x.qcow2", "image_storage": "local"}),
    # out of bounds, of another form
    ("name", {"name": "a"}),
    ("name", {"name": "my template"}),
    ("format", {"format": "ova"}),
    ("os_type", {"os_type": "l26"}),
    ("cores", {"cores": 0}),
    ("memory", {"memory": 255}),
    ("disk_size", {"disk_size": 10_241}),
    ("network", {"network": "vmbr0,tag=1"}),
    ("tags[0]", {"tags": ["a b"]}),
    ("user", {"user": "a b"}),
    ("description", {"description": "x" * 4097}),
    ("iso", {"iso": "x"}),
    # things that do not exist
    ("cluster", {"cluster": "no-such"}),
    ("node", {"node": "no-such"}),
    ("storage", {"storage": "no-such"}),
    ("image_storage", {"image_storage": "no-such"}),
    ("volume", {"url": ..., "volume": "local:import/none.qcow2"}),
    ("volume", {"url": ..., "volume": "local:iso/debian-12.11.0-amd64-netinst.iso"}),
]


def sent(changes: dict[str, Any], good: dict[str, Any] = GOOD) -> dict[str, Any]:
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


@pytest.mark.parametrize("field", dict.fromkeys(field for field, _ in BAD))
def test_a_bad_template_is_a_400_that_names_the_field(field, operator_calls, unchanged):
    for changes in (changes for named, changes in BAD if named == field):
        for query in ("", "?dry_run=true"):
            answer = operator_calls.post(f"{API}/templates{query}", sent(changes))
            assert field in fields_of(problem_of(answer, 400)), changes


def test_an_error_does_not_repeat_a_secret_of_the_url(operator_calls, unchanged):
    for url in (
        f"https://images.example/x.xz?sig={SECRET}",
        f"nonsense?sig={SECRET}",
        f"https://me:{SECRET}@images.example/x.qcow2",
        f"https://images.example/x y.qcow2?sig={SECRET}",
        f"https://images.example/x.qcow2?sig={SECRET}&x={'y' * 5000}",
    ):
        answer = operator_calls.post(f"{API}/templates", sent({"url": url}))
        problem_of(answer, 400)
        assert SECRET.encode() not in answer.content


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "ubuntu-22.04"}, "template_exists"),
        ({"image_storage": "ceph"}, "no_import_storage"),
        ({"storage": "local"}, "no_node"),
        ({"disk_size": 10_240}, "no_node"),
        ({"network": "vmbr77"}, "no_node"),
    ],
)
def test_a_template_that_cannot_be_made_is_a_409(changes, code, operator_calls, unchanged):
    problem_of(operator_calls.post(f"{API}/templates", sent(changes)), 409, code)


@pytest.mark.parametrize("field", ["name", "url", "volume", "node", "storage", "image_storage"])
def test_hostile_texts_are_refused_in_every_field(field, operator_calls, unchanged):
    harmless = {("name", "1e9"), ("name", "99999999999999999999")}
    for text in HOSTILE:
        if (field, text) in harmless:
            continue
        changes = {field: text, **({"url": ...} if field == "volume" else {})}
        body = problem_of(operator_calls.post(f"{API}/templates", sent(changes)), 400)
        assert field in fields_of(body), (text, body["errors"])


# --- copies ---


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("node", {}),
        *[("node", {"node": value}) for value in (*WRONG_TEXTS, "", "no-such", "../pve", "x" * 64)],
        *[("storage", {"node": "pve3", "storage": value}) for value in (*WRONG_TEXTS, "no-such")],
        ("target", {"node": "pve3", "target": "pve"}),
    ],
)
def test_a_bad_copy_is_a_400_that_names_the_field(field, body, operator_calls, unchanged):
    answer = operator_calls.post(f"{API}/templates/rocky-9/copies", body)
    assert field in fields_of(problem_of(answer, 400))


def test_copies_and_deletions_of_nothing_are_404s(operator_calls, unchanged):
    for wanted in ("no-such", "99999", "100", "11111111-2222-4333-8444-555555555555"):
        answer = operator_calls.post(f"{API}/templates/{wanted}/copies", {"node": "pve"})
        problem_of(answer, 404, "template_not_found")
        problem_of(operator_calls.delete(f"{API}/templates/{wanted}"), 404, "template_not_found")


def test_unknown_parameters_are_refused(operator_calls, unchanged):
    for method, path, body in (
        ("POST", "/templates?dryrun=true", GOOD),
        ("POST", "/templates/rocky-9/copies?force=true", {"node": "pve"}),
        ("DELETE", "/templates/rocky-9?force=true", None),
    ):
        answer = operator_calls.ask(method, API + path, body)
        assert len(fields_of(problem_of(answer, 400))) == 1


# --- VMs from images ---

ISO = "local:iso/debian-12.11.0-amd64-netinst.iso"
FROM_ISO: dict[str, Any] = {"name": "web", "os_template": ISO, "cores": 1, "memory": 512}


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("template", {"os_template": ...}),
        ("os_template", {"template": "ubuntu-22.04"}),
        *[("os_template", {"os_template": value}) for value in (*WRONG_TEXTS, "", "x" * 256)],
        *[("os_type", {"os_type": value}) for value in (*WRONG_TEXTS, "", "l26")],
        ("linked", {"linked": True}),
        ("cloud_init", {"cloud_init": {"user": "admin"}}),
        ("cloud_init", {"ip_config": "ip=dhcp"}),
        ("cluster", {"cluster": "no-such"}),
        ("node", {"node": "no-such"}),
        ("storage", {"storage": "no-such"}),
    ],
)
def test_a_bad_installation_is_a_400_that_names_the_field(
    field, changes, operator_calls, unchanged
):
    answer = operator_calls.post(f"{API}/vms", sent(changes, FROM_ISO))
    assert field in fields_of(problem_of(answer, 400))


def test_hostile_image_names_are_refused(operator_calls, unchanged):
    for text in HOSTILE:
        body = problem_of(
            operator_calls.post(f"{API}/vms", sent({"os_template": text}, FROM_ISO)), 400
        )
        assert "os_template" in fields_of(body), text
