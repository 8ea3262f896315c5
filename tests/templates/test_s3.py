"""An image in an S3 bucket, by a presigned URL: its signature gets nowhere but to the node."""

from __future__ import annotations

import gc
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from django.apps import apps
from moto.server import ThreadedMotoServer

from operations.models import Operation
from tests.conftest import run_until
from tests.images import DISK, SHA256

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def presigned() -> Iterator[str]:
    """A URL that gives whoever has it the image, for some minutes."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="a secret of ours",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    s3.create_bucket(Bucket="images")
    s3.put_object(Bucket="images", Key="cloud/debian 13.qcow2", Body=DISK)
    yield s3.generate_presigned_url(
        "get_object", Params={"Bucket": "images", "Key": "cloud/debian 13.qcow2"}, ExpiresIn=300
    )
    # It leaves the objects' temporary files open; unclosed ones would be held against a later test.
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=5).raise_for_status()
    server.stop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def loud(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything is logged, except by the bucket's own web server."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.ERROR, logger="werkzeug")
    return caplog


def test_from_a_bucket_to_a_running_vm(api, cluster, sim, work, presigned, loud):
    assert "X-Amz-Signature=" in presigned
    signature = presigned.partition("X-Amz-Signature=")[2].partition("&")[0]
    answer = api.post(
        "/api/v1/templates", {"name": "debian-13", "url": presigned, "checksum": SHA256}
    )
    assert answer.status_code == 202, answer.json()
    operation = work(answer.json()["task_id"])
    assert operation.state == "succeeded", operation.error
    assert operation.params["download"]["url"].endswith("/images/cloud/debian%2013.qcow2")

    made = api.post("/api/v1/vms", {"name": "web", "template": "debian-13"}).json()
    assert work(made["task_id"]).state == "succeeded"
    assert api.get(f"/api/v1/vms/{made['vmid']}").json()["status"] == "running"

    download = next(task for task in sim.tasks("download"))
    assert any(signature in line for line in download.log), "Proxmox's own log has it"
    log = api.get(f"/api/v1/tasks/{operation.uuid}/log").content.decode()
    assert "debian%2013.qcow2?…" in log
    said = answer.content.decode() + log + api.get("/api/v1/tasks").content.decode()
    for text in (said, loud.text, everything_stored()):
        assert signature not in text
        assert "X-Amz" not in text


def test_a_refusal_does_not_tell_the_signature(api, cluster, sim, work, presigned, loud):
    """The object is gone: wget says the URL once more than otherwise."""
    gone = presigned.replace("debian%2013", "none")
    operation = work(
        api.post("/api/v1/templates", {"name": "debian-13", "url": gone}).json()["task_id"]
    )
    assert operation.state == "failed"
    assert "404" in operation.error
    log = api.get(f"/api/v1/tasks/{operation.uuid}/log").content.decode()
    for text in (log, operation.error, loud.text, everything_stored()):
        assert "X-Amz" not in text


def test_it_is_sealed_while_it_is_needed(api, cluster, sim, presigned):
    body = api.post("/api/v1/templates", {"name": "debian-13", "url": presigned}).json()
    run_until(lambda: Operation.objects.get(uuid=body["task_id"]), lambda o: o.upid)
    assert Operation.objects.get(uuid=body["task_id"]).sealed_params
    assert "X-Amz" not in everything_stored()


def everything_stored() -> str:
    """All rows of all our tables, as text."""
    rows: list[Any] = []
    for model in apps.get_models():
        if not model._meta.app_label.startswith(("admin", "auth", "contenttypes", "sessions")):
            rows += model._default_manager.values()
    return json.dumps(rows, default=str)
