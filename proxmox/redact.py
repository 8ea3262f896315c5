"""Secrets that stand in texts of Proxmox's own: task logs, how a task ended, refusals."""

from __future__ import annotations

import re

# A download's log repeats its URL, and so do redirects: what follows the path may be a signature
# that gives access, what stands before the host a password.
_URL = re.compile(
    r"(?P<scheme>\bhttps?://)(?P<who>[^\s/?#'\"@]*@)?(?P<place>[^\s?#'\"]*)(?P<tail>[?#][^\s'\"]*)?"
)


def without_url_secrets(text: str) -> str:
    """The text with its URLs cut down to host and path."""
    return _URL.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    tail = f"{match['tail'][0]}…" if match["tail"] else ""
    return f"{match['scheme']}{match['place']}{tail}"
