"""Proxmox's sentences, sorted into the classes of `errors`.

Proxmox answers 500 for nearly everything, not-found included, so that only the text tells cases
apart. The text stands in the reason phrase of the status line; since January 2025 also in the
body's `message`. Most texts here were recorded from Proxmox VE 8.4 (tests/data/pve); the few others
come from its users' reports and carry a comment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from proxmox.errors import (
    Conflict,
    Forbidden,
    Locked,
    NotFound,
    OutcomeUnknown,
    ProxmoxError,
    Rejected,
    Unauthorized,
    Unreachable,
)

Maker = Callable[[str, int | None, "re.Match[str]"], ProxmoxError]


class Rule(NamedTuple):
    """A text that contains `pattern` becomes the error that `make` builds; the first match wins."""

    pattern: re.Pattern[str]
    make: Maker


def _locked(text: str, status: int | None, match: re.Match[str]) -> ProxmoxError:
    return Locked(text, status=status, lock=match.groupdict().get("lock"))


def _missing(what: str | None = None) -> Maker:
    def make(text: str, status: int | None, match: re.Match[str]) -> ProxmoxError:
        return NotFound(text, status=status, what=what or match.group("what").lower())

    return make


def _conflict(reason: str, what: str | None = None) -> Maker:
    def make(text: str, status: int | None, match: re.Match[str]) -> ProxmoxError:
        return Conflict(text, status=status, reason=reason, what=what)

    return make


def _forbidden(text: str, status: int | None, match: re.Match[str]) -> ProxmoxError:
    found = match.groupdict()
    return Forbidden(text, status=status, privilege=found.get("privilege"), path=found.get("path"))


def _as(error: type[ProxmoxError]) -> Maker:
    def make(text: str, status: int | None, match: re.Match[str]) -> ProxmoxError:
        return error(text, status=status)

    return make


def _rules(*pairs: tuple[str, Maker]) -> tuple[Rule, ...]:
    return tuple(Rule(re.compile(pattern), make) for pattern, make in pairs)


RULES = _rules(
    # Wait.
    (r"can't lock file '[^']*'", _locked),
    (r"VM is locked(?: \((?P<lock>[\w-]+)\))?", _locked),
    # Storage locks are cluster-wide; both wordings from users' reports of parallel clones.
    (r"cfs.lock\S* '.*(got lock request timeout|got lock timeout)", _locked),
    # Not there.
    (r"(Configuration file '\S*\.conf' does not exist|unable to find configuration file)",
     _missing("guest")),
    (r"no such task", _missing("task")),
    (r"(hostname lookup '[^']*' failed|no such cluster node)", _missing("node")),
    (r"No such storage", _missing("storage")),
    (r"failed to stat '", _missing("volume")),
    (r"\b(?P<what>[A-Za-z]+) '[^']*' does not exist", _missing()),
    # The state forbids it.
    (r"((VM|CT) \d+ already exists|config file already exists)", _conflict("exists", "guest")),
    (r"(already exists|already used|refusing to override existing file)", _conflict("exists")),
    (r"guest agent is not running", _conflict("agent_not_running")),
    (r"(already running|is running - destroy failed|if VM is running)", _conflict("running")),
    (r"VM \d+ not running", _conflict("not_running")),
    # The second wording is what a stale digest gives where the config is read, not written.
    (r"(file change by other user|file changed by other user)", _conflict("digest")),
    (r"protection mode enabled", _conflict("protected")),
    (r"(if it's a template|convert a template to a template)", _conflict("template")),
    (r"because VM contains snapshots", _conflict("has_snapshots")),
    # ZFS rolls back to its newest snapshot only; from users' reports.
    (r"is not most recent snapshot", _conflict("newer_snapshots")),
    (r"(is still in use by linked clone|is not empty \()", _conflict("in_use")),
    (r"VM quit/powerdown failed - got timeout", _conflict("guest_ignored")),
    # Nobody may, or not you.
    (r"Permission check failed(?: \((?P<path>/[^,)]*), (?P<privilege>[^)]+)\))?", _forbidden),
    (r"[Oo]nly root (can|may)", _forbidden),
    # A cluster without a majority is read-only: nothing happened, and asking again may help.
    (r"cluster not ready - no quorum", _as(Unreachable)),
    # The worker behind a task died, or was told to stop, in the middle of its work.
    (r"(^unexpected status$|interrupted by signal|received interrupt)", _as(OutcomeUnknown)),
)  # fmt: skip

# The proxy layer speaking, not Proxmox's API: 595 to 599 are pveproxy's own, and say whether it
# reached the node's daemon; 502 to 504 come from a reverse proxy that somebody put in front.
PROXY_LAYER = frozenset({502, 503, 504, 595, 596, 597, 598, 599})
# It could not connect to the node or its daemon: the request went nowhere.
NEVER_ARRIVED = 595


def classify(
    status: int, reason: str, body: Mapping[str, object] | None, *, method: str
) -> ProxmoxError:
    """The error that an answer with this status, reason phrase and decoded JSON body stands for."""
    text = _sentence(status, reason, body)
    if status == 401:
        return Unauthorized(text, status=status)
    if status in PROXY_LAYER:
        harmless = method == "GET" or status == NEVER_ARRIVED
        return (Unreachable if harmless else OutcomeUnknown)(text, status=status)
    errors = _errors_by_parameter(body)
    for candidate in (*errors.values(), text):
        found = _match(candidate, status)
        if found is not None:
            return found
    if status == 403:
        return Forbidden(text, status=status)
    return Rejected(text, status=status, errors=errors)


def _sentence(status: int, reason: str, body: Mapping[str, object] | None) -> str:
    message = body.get("message") if body else None
    text = message if isinstance(message, str) else ""
    return text.strip() or reason.strip() or f"HTTP status {status}"


def _errors_by_parameter(body: Mapping[str, object] | None) -> dict[str, str]:
    errors = body.get("errors") if body else None
    if not isinstance(errors, Mapping):
        return {}
    return {str(name): str(text).strip() for name, text in errors.items()}


def _match(text: str, status: int | None) -> ProxmoxError | None:
    for rule in RULES:
        match = rule.pattern.search(text)
        if match:
            return rule.make(text, status, match)
    return None


# -- tasks ---------------------------------------------------------------------------------------

# These end a task without saying why; the lines before them do.
_SAYS_NOTHING = re.compile(r"(exited with code|failed: exit code|exit code) \d+$")
# What a log holds besides causes: progress, announcements, the trailer.
_NO_CAUSE = re.compile(
    r"^(TASK |transferred |trying to acquire |Formatting |create (full|linked) clone"
    r"|generating cloud-init|downloading |--\d{4}-|Connecting to |HTTP request sent"
    r"|Length: |Saving to: |calculating |\d+K |starting |target |command: |purging |Image resized"
    r"|\S+: successfully created|WARN)"
)
# How a migration ends that says no more than that it was aborted; from Proxmox's sources. Where a
# disk is in the way, its line has the reason, and the last one only says to look for it.
_ABORTED = "migration aborted"
_WHY_ABORTED = re.compile(
    r"(ERROR: migration aborted \(duration [\d:]+\): |(?=can't migrate local disk))(?P<why>.+)"
)
_WGET_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")
_COMMAND = re.compile(r"command '(?:\S*/)?(?P<program>[^\s'/]+)[^']*' failed")


def classify_task_error(exitstatus: str, log: Sequence[str] = ()) -> ProxmoxError:
    """The error that a task's `exitstatus` stands for, its cause taken from the log where needed.

    `OK` and `WARNINGS: n` are successes and have no error; ask `TaskStatus.is_ok` first.
    """
    text = exitstatus.strip() or "the task ended without a status"
    if _SAYS_NOTHING.search(text):
        cause = _cause(log)
        if cause is not None:
            return _match(cause, None) or Rejected(cause)
    if text == _ABORTED:
        # Whatever the cause: it was given up, and is not begun again by itself.
        why = next((match["why"] for line in log if (match := _WHY_ABORTED.search(line))), "")
        return Rejected(f"{text}: {why}" if why else text)
    text = _shorten(text)
    return _match(text, None) or Rejected(text)


def _cause(log: Sequence[str]) -> str | None:
    """The first line that tells a cause: later ones are its consequences."""
    for line in log:
        text = line.strip()
        if text and text != "OK" and not _NO_CAUSE.match(text):
            return _WGET_STAMP.sub("", text)
    return None


def _shorten(text: str) -> str:
    """A command line says little to who only asked for a VM: its program is enough."""
    return _COMMAND.sub(r"\g<program> failed", text)
