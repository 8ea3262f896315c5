"""Putting files on a storage, and taking volumes off it."""

from __future__ import annotations

from typing import IO

from proxmox import validate
from proxmox.calls import Caller
from proxmox.upid import Upid
from proxmox.wire import Upload


class StorageCalls(Caller):
    def download_url(
        self,
        node: str,
        storage: str,
        *,
        url: str,
        filename: str,
        content: str = "iso",
        checksum: str | None = None,
        checksum_algorithm: str | None = None,
        verify_certificates: bool = True,
        timeout_s: float | None = None,
    ) -> Upid | None:
        """Lets the node fetch a file. An existing name fails in the task (Conflict `exists`)."""
        if not url.startswith(("http://", "https://")):
            raise ValueError("Proxmox downloads from http:// and https:// only")
        values = {
            "url": url,
            "filename": validate.filename(filename),
            "content": validate.upload_content(content),
            "checksum": checksum,
            "checksum-algorithm": checksum_algorithm,
            "verify-certificates": None if verify_certificates else False,
        }
        return self._act(
            "POST",
            "nodes/{node}/storage/{storage}/download-url",
            node=node,
            storage=storage,
            values=values,
            timeout_s=timeout_s,
        )

    def upload(
        self,
        node: str,
        storage: str,
        *,
        filename: str,
        file: IO[bytes],
        content: str = "iso",
        timeout_s: float | None = None,
    ) -> Upid | None:
        """Sends a seekable file from where it stands to its end, replacing one of that name
        without a word."""
        values = {
            "content": validate.upload_content(content),
            "filename": Upload(validate.filename(filename), file),
        }
        return self._act(
            "POST",
            "nodes/{node}/storage/{storage}/upload",
            node=node,
            storage=storage,
            values=values,
            timeout_s=timeout_s,
        )

    def delete_volume(
        self, node: str, volid: str, *, timeout_s: float | None = None
    ) -> Upid | None:
        """Frees `storage:path`. Proxmox does not ask whether a VM still uses an ISO."""
        return self._act(
            "DELETE",
            "nodes/{node}/storage/{storage}/content/{volume}",
            node=node,
            storage=validate.volume(volid).split(":", 1)[0],
            volume=volid,
            timeout_s=timeout_s,
        )
