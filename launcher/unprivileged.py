"""Postgres refuses to run as root, rightly, and as a user without a name, as containers have them.
This finds a way to run it as somebody else.

First choice is a user namespace in which we are called nobody: files keep their owner, and no
folder above them (a 0700 /root, say) is closed. Containers often forbid namespaces; there root
becomes nobody for real, keeps the one capability that opens such folders, and the data folder is
given to nobody.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LaunchError

NOBODY = 65534


@dataclass(frozen=True)
class Identity:
    """How to run a program that refuses root: words before its command, and who owns its data."""

    prefix: tuple[str, ...]
    owner: int

    def own(self, folder: Path) -> None:
        """Give a data folder to this identity (only root can, and only root needs to)."""
        if os.geteuid() != 0 or folder.stat().st_uid == self.owner:
            return
        os.chown(folder, self.owner, self.owner)
        for here, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(Path(here) / name, self.owner, self.owner, follow_symlinks=False)


def find_identity() -> Identity:
    """Raises LaunchError where there is no way."""
    us = os.geteuid()
    if us != 0 and _has_name(us):
        return Identity(prefix=(), owner=us)
    namespace = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
    ways: list[tuple[tuple[str, ...], int]] = [(namespace, us)]
    if us == 0:
        dropped = (
            *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
            *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
        )
        ways.append((dropped, NOBODY))
    for prefix, owner in ways:
        if shutil.which(prefix[0]) and _works(prefix):
            return Identity(prefix=prefix, owner=owner)
    who = "as root" if us == 0 else f"as a user without a name (uid {us})"
    raise LaunchError(
        f"Postgres does not run {who}, and this machine has no `unshare` or `setpriv` that could "
        "change that: start Izvor as an ordinary user, or set DATABASE_URL."
    )


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _works(prefix: tuple[str, ...]) -> bool:
    try:
        tried = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0
