"""Uploads and downloads to a storage."""

from __future__ import annotations

from typing import Any

from .. import images
from ..routing import Call, route


@route("POST", "/nodes/{node}/storage/{storage}/upload")
async def upload(call: Call) -> Any:
    storage = call.sim.world.storage_on(str(call.params["storage"]), call.node)
    content = str(call.params["content"])
    images.require_content(storage, call.node, content)
    name = images.clean_name(str(call.params["filename"]))
    images.check_name(content, name)
    file: images.Received = call.request[images.UPLOAD]
    return call.sim.tasks.start(
        node=call.node,
        kind="imgcopy",
        id="",
        user=call.identity.authid,
        worker=lambda job: images.upload(
            call.sim,
            job,
            storage=storage,
            node=call.node,
            content=content,
            name=name,
            file=file,
        ),
    )


@route("POST", "/nodes/{node}/storage/{storage}/download-url")
async def download_url(call: Call) -> Any:
    params = call.params
    storage = call.sim.world.storage_on(str(params["storage"]), call.node)
    content = str(params["content"])
    images.require_content(storage, call.node, content)
    name = images.clean_name(str(params["filename"]))
    images.check_name(content, name)
    checksum = None
    if "checksum" in params:
        checksum = (str(params["checksum-algorithm"]), str(params["checksum"]))
    return call.sim.tasks.start(
        node=call.node,
        kind="download",
        id=name,
        user=call.identity.authid,
        worker=lambda job: images.download(
            call.sim,
            job,
            storage=storage,
            node=call.node,
            content=content,
            name=name,
            url=str(params["url"]),
            checksum=checksum,
            verifies=bool(params.get("verify-certificates", 1)),
        ),
    )


@route("GET", "/nodes/{node}/query-url-metadata")
async def query_url_metadata(call: Call) -> Any:
    verifies = bool(call.params.get("verify-certificates", 1))
    return await images.metadata(str(call.params["url"]), verifies=verifies)
