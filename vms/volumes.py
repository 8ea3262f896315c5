"""The files that Izvor itself lays on storages: how they are called, and known again by name.

A VM's user-data, and a cloud image that is fetched for one template. They are nobody else's
business: user-data holds keys and password hashes, so no request lists or is given one by its name.
"""

from __future__ import annotations

import re
import uuid

_USER_DATA = re.compile(r"[^:]+:iso/izvor-(?P<uuid>[0-9a-f-]{36})-[0-9a-f]{12}\.iso")
_IMAGE = re.compile(r"[^:]+:import/izvor-(?P<uuid>[0-9a-f]{32})\.\w+")


def user_data_file(vm: uuid.UUID, digest: str) -> str:
    """Of an ISO; `digest` has 12 hexadecimal digits."""
    return f"izvor-{vm}-{digest}.iso"


def image_file(vm: uuid.UUID, extension: str) -> str:
    return f"izvor-{vm.hex}.{extension}"


def vm_of_user_data(volume: str) -> uuid.UUID | None:
    """Whose user-data this volume ID is; None for any other volume."""
    return _uuid_in(_USER_DATA.fullmatch(volume))


def vm_of_image(volume: str) -> uuid.UUID | None:
    """For whose template this image was fetched; None for any other volume."""
    return _uuid_in(_IMAGE.fullmatch(volume))


def is_own(volume: str) -> bool:
    return bool(vm_of_user_data(volume) or vm_of_image(volume))


def _uuid_in(match: re.Match[str] | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(match["uuid"]) if match else None
    except ValueError:
        return None
