"""User-data at rest, and the names of its ISOs."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from passlib.hash import sha512_crypt

from accounts import crypto
from clusters.models import Storage
from vms.asked import CloudInit
from vms.models import UserData, VirtualMachine


def sealable(cloud_init: CloudInit) -> dict[str, Any]:
    """All of cloud-init's fields as they are kept for the ISO; the password as its hash only."""
    content = cloud_init.without_secret() | {"user_data": cloud_init.user_data}
    if cloud_init.password:
        # With the rounds that every libc knows by heart: the hash has no `rounds=` part then.
        content["password_hash"] = sha512_crypt.using(rounds=5000).hash(cloud_init.password)
    return content


def seal(content: dict[str, Any]) -> str:
    return crypto.seal(json.dumps(content))


def read_sealed(vm: VirtualMachine) -> dict[str, Any] | None:
    """What the VM's ISO was made from; None where it has none. Raises crypto.Unsealable."""
    row = UserData.objects.filter(vm=vm).first()
    if row is None:
        return None
    return json.loads(crypto.unseal(row.sealed))  # type: ignore[no-any-return]


def iso_storages(cluster: int, node: str = "") -> list[Storage]:
    """Storages that take the ISO: the one of IZVOR_USERDATA_STORAGE, else any, shared ones first.

    A VM whose ISO is on local storage cannot be migrated.
    """
    storages = Storage.objects.filter(
        cluster=cluster, content__contains=["iso"], is_available=True, missing_since=None
    )
    if node:
        storages = storages.filter(node=node)
    if settings.IZVOR_USERDATA_STORAGE:
        storages = storages.filter(name=settings.IZVOR_USERDATA_STORAGE)
    return list(storages.order_by("-is_shared", "name"))
