"""Why an action was refused before anything happened; the API turns each into a problem.

Refusal
  InvalidInput   400  the request says something that cannot be
  NotAllowed     403  known, but not for this caller (a quota, a role)
  NotFound       404  unknown, or not visible to this caller
  Conflict       409  right request, wrong moment or state
  Unavailable    503  Proxmox, or a service of ours, cannot be asked now
    SwitchedOff
"""

from __future__ import annotations


class Refusal(Exception):
    """`code` is stable and documented; `detail` is a sentence for a person."""

    status = 400

    def __init__(self, code: str, detail: str, *, field: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field


class InvalidInput(Refusal):
    def __init__(self, field: str, detail: str, *, code: str = "invalid") -> None:
        super().__init__(code, detail, field=field)


class NotAllowed(Refusal):
    status = 403


class NotFound(Refusal):
    status = 404


class Conflict(Refusal):
    status = 409


class Unavailable(Refusal):
    status = 503


class SwitchedOff(Unavailable):
    """Nothing is asked of a cluster that an operator has switched off."""

    def __init__(self, cluster: object) -> None:
        super().__init__("cluster_disabled", f"Cluster {cluster} is switched off in Izvor.")
