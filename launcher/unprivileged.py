"""Postgres refuses to run as root, rightly. This finds a way to run it as somebody else.

First choice is a user namespace in which root is called nobody: files keep their owner, and no
folder above them (a 0700 /root, say) is closed. Containers often forbid namespaces; there `setpriv`
becomes nobody for real, keeps the one capability that opens such folders, and the data folder is
given to nobody.
"""

from __future__ import annotations

import os
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
    """Raises LaunchError where root has no way to give up being root."""
    if os.geteuid() != 0:
        return Identity(prefix=(), owner=os.geteuid())
    namespace = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
    dropped = (
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
    )
    for prefix, owner in ((namespace, 0), (dropped, NOBODY)):
        if shutil.which(prefix[0]) and _works(prefix):
            return Identity(prefix=prefix, owner=owner)
    raise LaunchError(
        "Postgres does not run as root, and neither `unshare` nor `setpriv` can make root "
        "somebody else here: start Izvor as an ordinary user, or set DATABASE_URL."
    )


def _works(prefix: tuple[str, ...]) -> bool:
    try:
        tried = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0
