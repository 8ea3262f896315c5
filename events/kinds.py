"""Every kind of event there is; docs/events.md says more of each."""

from __future__ import annotations

KINDS: dict[str, str] = {
    "task.accepted": "a request became a task",
    "task.cancel_requested": "somebody asked a task to stop",
    "task.succeeded": "a task ended well",
    "task.failed": "a task failed",
    "task.canceled": "a task was canceled",
    "task.left_behind": "undoing a failed task failed too: something is left on the cluster",
    "vm.assigned": "a VM was given to a project",
    "vm.protection_changed": "a VM was protected, or is no longer",
    "vm.metadata_changed": "a VM's metadata were changed; what they hold is not told",
    "vm.changed_outside": "a VM was changed in Proxmox, not through Izvor",
    "vm.converted_outside": "a VM was made a template in Proxmox, not through Izvor",
    "vm.missing": "a VM is no longer on its cluster",
    "vm.replaced": "another VM stands under this one's number",
    "vm.forgotten": "the record of a VM that had been missing for long was dropped",
    "vm.repaired": "cluster and database differed about a VM, and a rule mended it",
    "console.minted": "somebody asked for a link to a VM's screen",
    "console.opened": "the link was used",
    "console.closed": "the screen was closed",
    "cluster.created": "a cluster was added",
    "cluster.changed": "a cluster's settings were changed",
    "cluster.deleted": "a cluster was removed",
    "cluster.online": "a cluster answers",
    "cluster.unreachable": "a cluster does not answer",
    "cluster.refused": "a cluster answers in a way that forbids to go on",
    "lane.changed": "a lane's limit was changed",
    "size.created": "a size was added",
    "size.changed": "a size was changed",
    "size.deleted": "a size was removed",
    "template.replaced": "another template stands under this one's number",
    "template.changed": "a template was published or hidden",
    "project.created": "a project was made",
    "project.changed": "a project was renamed, described, or its people changed",
    "project.deleted": "a project was removed",
    "quota.changed": "a project's quota was set",
    "token.created": "an API token was made",
    "token.changed": "an API token was renamed, or its end moved",
    "token.revoked": "an API token was revoked",
    "user.created": "a person was added",
    "user.changed": "a person's data, rights or password were changed",
    "user.deleted": "a person was removed",
    "group.created": "a group of people was added",
    "group.changed": "a group's rights were changed",
    "group.deleted": "a group was removed",
    "login.succeeded": "somebody logged in to the admin",
    "login.failed": "somebody was refused at the admin's login",
    "webhook.created": "a webhook was made",
    "webhook.changed": "a webhook was changed, or switched on or off",
    "webhook.deleted": "a webhook was removed",
    "webhook.disabled": "a webhook had failed for days and was switched off",
    "webhook.ping": "a test, asked for by a person; goes to that webhook alone",
    "webhook.redelivered": "somebody asked for a delivery once more",
}
PING = "webhook.ping"


def is_known(pattern: str) -> bool:
    """A kind, or `noun.*` for all of a noun's, or `*`."""
    if pattern == "*" or pattern in KINDS:
        return True
    noun, dot, rest = pattern.partition(".")
    return dot == "." and rest == "*" and any(kind.startswith(f"{noun}.") for kind in KINDS)
