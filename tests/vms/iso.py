"""Reading back the NoCloud ISO that was uploaded, as a guest would."""

from __future__ import annotations

import io

import pycdlib


def read_iso(image: bytes) -> dict[str, str]:
    """The files' texts by name."""
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(image))
    texts = {}
    for child in iso.list_children(joliet_path="/"):
        if child.is_file():
            name = child.file_identifier().decode("utf-16-be")
            content = io.BytesIO()
            iso.get_file_from_iso_fp(content, joliet_path=f"/{name}")
            texts[name] = content.getvalue().decode()
    iso.close()
    return texts
