"""What a person can do about a failed task, by its error code; docs/operations.md says the same."""

from __future__ import annotations

# code: what happened, what to do
ADVICE: dict[str, tuple[str, str]] = {
    "proxmox_rejected": (
        "Proxmox refused; the error has its own words",
        "mend what they name, ask again",
    ),
    "proxmox_conflict": (
        "Proxmox refused; the error has its own words",
        "mend what they name, ask again",
    ),
    "proxmox_not_found": (
        "Proxmox refused; the error has its own words",
        "mend what they name, ask again",
    ),
    "proxmox_forbidden": (
        "a privilege is missing; the error names it and its path",
        "grant it, ask again",
    ),
    "proxmox_unreachable": ("it stayed so for an hour", "mend it, ask again"),
    "proxmox_unauthorized": ("it stayed so for an hour", "mend it, ask again"),
    "proxmox_locked": ("somebody's lock did not go away in time", "see who holds it, ask again"),
    "outcome_unknown": (
        "an answer was lost and nothing tells whether it happened",
        "look at the VM",
    ),
    "no_effect": (
        "Proxmox reported success, the state is not as asked; the error says the difference",
        "look at the VM in Proxmox",
    ),
    "timed_out": ("somebody's lock, or a state, did not go away or come", "`error` says which"),
    "vm_gone": ("somebody deleted or replaced it meanwhile", "nothing was touched"),
    "vm_replaced": ("somebody deleted or replaced it meanwhile", "nothing was touched"),
    "template_gone": ("somebody deleted or replaced it meanwhile", "nothing was touched"),
    "template_replaced": ("somebody deleted or replaced it meanwhile", "nothing was touched"),
    "is_template": (
        "the VM that was to be deleted is a template by now",
        "delete it as a template, if nobody needs it",
    ),
    "image_gone": (
        "the ISO or cloud image was removed from its storage meanwhile",
        "choose another, or bring it back",
    ),
    "has_linked_clones": (
        "somebody made a linked clone of the template while it was being deleted",
        "delete that one first; the template is as it was",
    ),
    "stuck_lock": (
        "a worker of a clone, snapshot or migration died in Proxmox and left a lock that no token "
        "can clear",
        "run the `qm unlock` line in the error as root on that node, then try again, or delete a "
        "half-made VM",
    ),
    "snapshot_exists": ("somebody took a snapshot of that name first", "choose another name"),
    "protected": ("Proxmox's own protection is on", "unset it there"),
    "no_iso_storage": (
        "the node has no storage for the ISO with the VM's user-data",
        "give one the content type `iso`",
    ),
    "wrong_state": (
        "the VM's state had changed when its turn came",
        "look at the VM, ask again",
    ),
    "snapshot_gone": ("somebody deleted the snapshot first", "nothing was touched"),
    "no_disk": (
        "the template has no disk that could be grown",
        "use another template, or no disk size",
    ),
    "vmid_changed": (
        "somebody renumbered the VM while it was being made",
        "look at the VM in Proxmox",
    ),
    "secret_unreadable": (
        "a stored secret was sealed with another `IZVOR_SECRET_KEY`",
        "put the former key into `IZVOR_SECRET_KEY_FALLBACKS`, or enter the secret again",
    ),
    "internal_error": (
        "a bug of Izvor's, or a task of a newer version than all workers; retried for 5 minutes",
        "the log has it under the task's id",
    ),
}


def advice_for(code: str) -> tuple[str, str]:
    """What happened and what to do; two empty texts where the error says all there is."""
    return ADVICE.get(code, ("", ""))
