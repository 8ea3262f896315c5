"""The only code that speaks to Proxmox VE: typed calls, frozen results, errors by what to do.

Knows neither Django nor Izvor. Start with `Client`.
"""

from proxmox.auth import Credentials, Password, Token
from proxmox.classify import classify, classify_task_error
from proxmox.client import Client
from proxmox.endpoints import Endpoint
from proxmox.errors import (
    BadAnswer,
    Conflict,
    Forbidden,
    Locked,
    NotFound,
    OutcomeUnknown,
    ProxmoxError,
    Rejected,
    TimedOut,
    Unauthorized,
    Unreachable,
    Untrusted,
)
from proxmox.tls import Tls
from proxmox.upid import Upid

__all__ = [
    "BadAnswer",
    "Client",
    "Conflict",
    "Credentials",
    "Endpoint",
    "Forbidden",
    "Locked",
    "NotFound",
    "OutcomeUnknown",
    "Password",
    "ProxmoxError",
    "Rejected",
    "TimedOut",
    "Tls",
    "Token",
    "Unauthorized",
    "Unreachable",
    "Untrusted",
    "Upid",
    "classify",
    "classify_task_error",
]
