"""What never leaves the machine: anything that could bend a path, and values that are none."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from proxmox import Client, Upid
from proxmox.results import GuestConfig
from tests.proxmox.server import Say, data

UPID = "UPID:pve1:00000174:0005354B:6B03FB8B:qmstart:9000:izvor@pve!api:"
BENT = ["", ".", "..", "../x", "a/b", "a?b", "a%2fb", "a#b", "a b", "a\n", "ä", "a" * 300, None, 7]


def refused(why: str, *calls: Callable[[], object]) -> None:
    for call in calls:
        with pytest.raises(ValueError, match=why):
            call()


@pytest.fixture
def client(serve, connect):
    server = serve(lambda seen: data(None))
    client = connect(server)
    yield client
    assert server.seen == []


@pytest.mark.parametrize("node", [*BENT, "-pve", "pve-", "pve_1", "pve.1"])
def test_a_node_is_a_host_name(client, node):
    refused(
        "not a node name",
        lambda: client.node_status(node),
        lambda: client.guest_status(node, 100),
        lambda: client.tasks(node),
        lambda: client.migrate("pve1", 100, node),
        lambda: client.create_guest(node, 100),
    )


@pytest.mark.parametrize(
    "vmid", [0, 99, -100, 1_000_000_000, "100", "100/../101", 100.0, True, None]
)
def test_a_vmid_is_a_whole_number_in_range(client, vmid):
    refused(
        "not a VMID",
        lambda: client.guest_config("pve1", vmid),
        lambda: client.vmid_is_free(vmid),
        lambda: client.delete_guest("pve1", vmid),
        lambda: client.clone_guest("pve1", 100, newid=vmid),
        lambda: client.create_guest("pve1", vmid),
    )


@pytest.mark.parametrize("storage", [*BENT, "1store", "s"])
def test_a_storage_is_an_id(client, storage):
    refused(
        "not a storage ID",
        lambda: client.storage_content("pve1", storage),
        lambda: client.move_disk("pve1", 100, "scsi0", storage),
    )


@pytest.mark.parametrize("name", [*BENT, "1st", "a" * 41, "x"])
def test_a_snapshot_has_a_name(client, name):
    refused(
        "not a snapshot name",
        lambda: client.take_snapshot("pve1", 100, name),
        lambda: client.rollback_snapshot("pve1", 100, name),
        lambda: client.delete_snapshot("pve1", 100, name),
    )


@pytest.mark.parametrize(
    "upid", ["", "UPID:nonsense", UPID[:-1], UPID + "/../x", "../" + UPID, None]
)
def test_a_task_has_a_upid(client, upid):
    refused(
        "not the name of a Proxmox task",
        lambda: client.task_status(upid),
        lambda: client.task_log(upid),
        lambda: client.abort_task(upid),
    )


@pytest.mark.parametrize(
    "volid",
    [
        *BENT,
        "local",
        "local:",
        "local:../x",
        "local:iso/../x",
        "local:iso//x",
        "local:iso/./x",
        "local:a?b",
        "local:a%2fb",
        "local:a b",
        "/dev/sda",
    ],
)
def test_a_volume_is_on_a_storage(client, volid):
    with pytest.raises(ValueError, match="not a volume ID"):
        client.delete_volume("pve1", volid)


@pytest.mark.parametrize(
    "filename",
    [
        "",
        "../x.iso",
        "a/b.iso",
        ".hidden",
        'a".iso',
        "a\r\n.iso",
        "a\\b",
        "a%2f.iso",
        "ä.iso",
        "a" * 300,
    ],
)
def test_a_file_has_a_plain_name(client, filename):
    with pytest.raises(ValueError, match="not a file name"):
        client.upload("pve1", "local", filename=filename, file=io.BytesIO())
    with pytest.raises(ValueError, match="not a file name"):
        client.download_url("pve1", "local", url="https://example.org/x", filename=filename)


def test_only_http_is_downloaded_from(client):
    with pytest.raises(ValueError, match="http"):
        client.download_url("pve1", "local", url="file:///etc/passwd", filename="x.iso")


@pytest.mark.parametrize("disk", ["", "scsi", "scsi0/../x", "net0", "scsi0,scsi1", "description"])
def test_a_disk_is_a_drives_key(client, disk):
    with pytest.raises(ValueError, match="not a disk key"):
        client.resize_disk("pve1", 100, disk, "10G")


@pytest.mark.parametrize("size", ["", "-1G", "10g", "10GB", "ten", "1G,ssd=1"])
def test_a_size_is_a_number_with_a_unit(client, size):
    with pytest.raises(ValueError, match="not a disk size"):
        client.resize_disk("pve1", 100, "scsi0", size)


@pytest.mark.parametrize("key", ["", "a b", "a=b", "../x", "a&b"])
def test_an_option_has_a_name(client, key):
    with pytest.raises(ValueError, match="not an option name"):
        client.update_config("pve1", 100, changes={key: 1})
    with pytest.raises(ValueError, match="not an option name"):
        client.update_config("pve1", 100, changes={}, delete=[key])


def test_an_option_is_not_set_and_deleted_at_once(client):
    with pytest.raises(ValueError, match="named twice"):
        client.update_config("pve1", 100, changes={"onboot": True}, delete=["onboot"])
    with pytest.raises(ValueError, match="named twice"):
        client.update_config("pve1", 100, changes={"digest": "x"})


@pytest.mark.parametrize("value", ["hunter2\x00", ["hunter2"], {"a": "hunter2"}, b"hunter2"])
def test_a_value_is_text_or_number_and_is_not_repeated(client, value):
    with pytest.raises(ValueError, match="cipassword") as raised:
        client.update_config("pve1", 100, changes={"cipassword": value})
    assert "hunter2" not in str(raised.value)


def test_what_is_none_of_a_list_is_refused(client):
    refused(
        r"not a|at least 1|not negative",
        lambda: client.guest_feature("pve1", 100, "fly"),
        lambda: client.rrddata("pve1", 100, "decade"),
        lambda: client.tasks("pve1", source="everything"),
        lambda: client.tasks("pve1", limit=0),
        lambda: client.tasks("pve1", typefilter="qm start"),
        lambda: client.permissions("vms/100"),
        lambda: client.permissions("/vms/../x"),
        lambda: client.upload(
            "pve1", "local", filename="a.iso", file=io.BytesIO(), content="snippets"
        ),
        lambda: client.clone_guest("pve1", 100, newid=101, format="zip"),
        lambda: client.clone_guest("pve1", 100, newid=101, pool="a b"),
        lambda: client.migrate("pve1", 100, "pve2", targetstorage="a;b"),
        lambda: client.storage_content("pve1", "local", content="iso&x=1"),
        lambda: client.shutdown("pve1", 100, shutdown_timeout_s=-1),
    )


# -- what does leave -------------------------------------------------------------------------------


def test_paths_are_encoded_segment_by_segment(serve, connect):
    server = serve(lambda seen: data(None))
    client = connect(server)
    client.abort_task(Upid.parse(UPID))
    client.delete_volume("pve1", "local:101/vm-101-disk-9.qcow2")
    assert [seen.raw_path for seen in server.seen] == [
        "/api2/json/nodes/pve1/tasks/"
        "UPID%3Apve1%3A00000174%3A0005354B%3A6B03FB8B%3Aqmstart%3A9000%3Aizvor%40pve%21api%3A",
        "/api2/json/nodes/pve1/storage/local/content/local%3A101%2Fvm-101-disk-9.qcow2",
    ]


def test_values_are_encoded_whole(serve, connect):
    server = serve(lambda seen: data(None))
    connect(server).update_config(
        "pve1",
        100,
        changes={"description": "a=b&c d+e%\nä", "onboot": True, "protection": False, "cores": 2},
        delete=["net1", "net2"],
        digest="abc",
    )
    assert server.seen[0].body == (
        b"description=a%3Db%26c%20d%2Be%25%0A%C3%A4&onboot=1&protection=0&cores=2"
        b"&delete=net1%2Cnet2&digest=abc"
    )


def test_keys_are_encoded_twice_and_read_back(serve, connect):
    keys = "ssh-ed25519 AAAA+/= me@host\nssh-rsa BBBB== other\n"
    server = serve(lambda seen: data(None))
    connect(server).update_config("pve1", 100, changes={"sshkeys": keys})
    (seen,) = server.seen
    once = "ssh-ed25519%20AAAA%2B%2F%3D%20me%40host%0Assh-rsa%20BBBB%3D%3D%20other%0A"
    assert seen.form == {"sshkeys": once}
    assert b"+" not in seen.body
    assert GuestConfig.from_api({"sshkeys": once}).sshkeys == keys


def test_what_is_not_given_is_not_sent(serve, connect):
    server = serve(lambda seen: data(UPID))
    client: Client = connect(server)
    client.clone_guest("pve1", 9000, newid=120, name="web")
    client.shutdown("pve1", 100)
    client.shutdown("pve1", 100, shutdown_timeout_s=60, force_stop=True)
    client.reboot("pve1", 100, reboot_timeout_s=30)
    client.suspend("pve1", 100, to_disk=True)
    client.take_snapshot("pve1", 100, "clean", with_ram=True)
    client.migrate("pve1", 100, "pve2", online=True, with_local_disks=True)
    assert [seen.form for seen in server.seen] == [
        {"newid": "120", "name": "web", "full": "1"},
        {},
        {"timeout": "60", "forceStop": "1"},
        {"timeout": "30"},
        {"todisk": "1"},
        {"snapname": "clean", "vmstate": "1"},
        {"target": "pve2", "online": "1", "with-local-disks": "1"},
    ]


def test_a_delete_has_no_body_and_leaves_foreign_disks_alone(serve, connect):
    server = serve(lambda seen: data(UPID))
    connect(server).delete_guest("pve1", 100)
    (seen,) = server.seen
    assert seen.body == b""
    assert "Content-Length" not in seen.headers
    assert seen.query == {"purge": "1", "destroy-unreferenced-disks": "0"}


def test_task_lists_are_asked_for_as_meant(serve, connect):
    server = serve(lambda seen: data([]))
    client = connect(server)
    client.tasks("pve1")
    client.tasks("pve1", source="all", vmid=100, typefilter="qmreboot", since=1795423142, limit=10)
    client.task_log(Upid.parse(UPID))
    assert [seen.query for seen in server.seen] == [
        {"source": "active", "limit": "5000"},
        {
            "source": "all",
            "limit": "10",
            "vmid": "100",
            "typefilter": "qmreboot",
            "since": "1795423142",
        },
        {"limit": "0"},
    ]


def test_a_resize_that_is_done_at_once_has_no_task(serve, connect):
    """Proxmox VE 7.4 answers null."""
    assert connect(serve(lambda seen: data(None))).resize_disk("pve1", 100, "scsi0", "40G") is None


def test_the_feature_call_reads_both_answers(serve, connect):
    server = serve(lambda seen: data({"hasFeature": 1, "nodes": ["pve1", "pve2"]}))
    client = connect(server)
    feature = client.guest_feature("pve1", 9000, "clone", "clean")
    assert feature.is_available
    assert feature.nodes == {"pve1", "pve2"}
    assert server.seen[0].query == {"feature": "clone", "snapname": "clean"}
    server.answer = lambda seen: data({"hasFeature": 0})
    assert not client.guest_feature("pve1", 9000, "copy").is_available


def test_a_cluster_is_known_by_its_ca(serve, connect):
    certificates = [
        {"filename": "pve-root-ca.pem", "fingerprint": "AA:BB"},
        {"filename": "pve-ssl.pem", "fingerprint": "CC:DD"},
    ]
    server = serve(lambda seen: data(certificates))
    client = connect(server)
    assert client.ca_fingerprint("pve1") == "AA:BB"
    server.answer = lambda seen: data(certificates[1:])
    assert client.ca_fingerprint("pve1") is None


# -- uploads ---------------------------------------------------------------------------------------


def test_a_file_is_uploaded_as_proxmox_reads_it(serve, connect):
    server = serve(lambda seen: data(UPID))
    image = bytes(range(256)) * 400
    file = io.BytesIO(b"skipped" + image)
    file.seek(7)
    connect(server).upload("pve1", "local", filename="seed-120.iso", file=file)
    (seen,) = server.seen
    boundary = seen.headers["Content-Type"].partition("boundary=")[2].encode()
    assert "Transfer-Encoding" not in seen.headers
    assert seen.body == (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n'
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="filename"; '
        b'filename="seed-120.iso"\r\nContent-Type: application/octet-stream\r\n\r\n'
        + image
        + b"\r\n--"
        + boundary
        + b"--\r\n"
    )


def test_an_upload_starts_over_where_the_first_endpoint_is_dead(serve, connect):
    server = serve(lambda seen: data(UPID))
    client = connect("https://127.0.0.1:1", server)
    assert client.upload("pve1", "local", filename="a.iso", file=io.BytesIO(b"image"))
    assert b"\r\n\r\nimage\r\n--" in server.seen[0].body


def test_a_refused_upload_says_why(serve, connect):
    body = {"data": None, "errors": {"filename": "wrong file extension"}, "message": "no\n"}
    server = serve(lambda seen: Say(body, 400, "Parameter verification failed."))
    with pytest.raises(Exception, match="wrong file extension"):
        connect(server).upload("pve1", "local", filename="a.txt", file=io.BytesIO(b"x"))
