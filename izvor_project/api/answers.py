"""Which answer each endpoint gives, by view and action: status and shape. And what may be asked.

`components.py` has the objects; here they are put together as the views do it.
"""

from __future__ import annotations

from typing import Any

from accounts.rest import LIMIT_MAX
from events.models import DELIVERY_STATES
from izvor_project.api.components import (
    FLAG,
    IMAGES,
    ISOS,
    LOG,
    RESOURCES,
    SERIES,
    SNAPSHOTS,
    STRINGS,
    TIME,
    UUID,
    WORDS,
    Shape,
    also,
    exactly,
    integer,
    listed,
    maybe,
    page,
    ref,
    text,
)
from operations.views import STATES
from vms.models import STATUSES
from vms.series import TIMEFRAMES
from vms.verbs import VERBS

Answers = dict[str, Any]


def either(*shapes: Shape) -> Shape:
    return {"anyOf": list(shapes)}


def with_some(base: Shape, **optional: Shape) -> Shape:
    """With fields that are there in some of its answers only."""
    return {**base, "properties": {**base["properties"], **optional}}


def long(shape: Shape, done: str = "200") -> Answers:
    """Long work: accepted, or waited for (`Prefer: wait`)."""
    return {"202": shape, done: shape}


FOLLOWED = exactly(task_id=UUID, task=ref("Task"))
VM_MADE = also(FOLLOWED, vm=ref("VirtualMachine"), vmid=text())
BATCH = exactly(vms=listed(ref("VirtualMachine")), tasks=listed(ref("Task")))
CREATED = either(VM_MADE, BATCH)
ACTED = with_some(
    also(FOLLOWED, action=text(enum=sorted(VERBS)), vmid=text()),
    vm=ref("VirtualMachine"),
    name=text(),
    snapshot=ref("Snapshot"),
)
DELETED = with_some(also(FOLLOWED, message=text(), vmid=text()), vm=ref("VirtualMachine"))
OWN_CHANGED = exactly(
    vm=ref("VirtualMachine"),
    vmid=text(),
    pending=listed(text("an option that waits for the next start")),
)
CHANGED = also(FOLLOWED, **OWN_CHANGED["properties"])
SNAPSHOT_DONE = also(FOLLOWED, name=text(), vmid=text())
SNAPSHOT_TAKEN = with_some(
    also(SNAPSHOT_DONE, action=text(enum=["snapshot"])), snapshot=ref("Snapshot")
)
TEMPLATE_MADE = also(FOLLOWED, template=maybe(ref("Template")))
TEMPLATE_COPIED = also(FOLLOWED, template=maybe(ref("Template")), copy=maybe(ref("Template")))
TEMPLATE_DELETED = also(FOLLOWED, message=text(), id=text())
# A task that is canceled or tried again answers as what had begun it.
OF_ANY_KIND: Shape = {
    "type": "object",
    "properties": {"task_id": UUID, "task": ref("Task")},
    "required": ["task"],
}
CALL = exactly(step=text(), method=text(), path=text())
DRY_RUN: Shape = {
    "type": "object",
    "description": "What would be chosen and asked of Proxmox; nothing is changed.",
    "required": ["dry_run", "cluster", "node", "reason", "rejected_nodes", "calls"],
    "properties": {
        "dry_run": FLAG,
        "count": integer(),
        "cluster": text(),
        "node": text(),
        "nodes": WORDS,
        "reason": text("why that node"),
        "rejected_nodes": {**STRINGS, "description": "what spoke against the others"},
        "quota": {"type": "object", "description": "used, added and allowed, by what is limited"},
        "calls": listed(CALL),
    },
}
CONSOLE = exactly(
    type=text(enum=["vnc"]),
    url=text("Opens the VM's screen in a browser, once."),
    websocket_url=text("The same for programs: RFB 3.8 in binary messages, once."),
    host=text("Izvor's, to which the websocket goes."),
    port=integer(),
    ticket=text("Izvor's own: used once, within a minute."),
    password=maybe(text("What VNC asks for; null, since Izvor logs in.")),
    expires_at=TIME,
)
SECRET = text("shown this once")


def resource(noun: str, name: str, key: str, *, once: Shape | None = None) -> dict[Any, Answers]:
    """What is made, changed and removed at once, as projects, tokens and sizes are."""
    one: Shape = ref(name)
    return {
        (noun, "list"): {"200": page(key, name)},
        (noun, "retrieve"): {"200": one},
        (noun, "create"): {"201": once or one},
        (noun, "update"): {"200": one},
        (noun, "partial_update"): {"200": one},
        (noun, "destroy"): {"204": None},
    }


def shown_once(name: str) -> Shape:
    """With its secret; a repeated request with the same Idempotency-Key gets none."""
    return {"allOf": [ref(name)], "properties": {"secret": SECRET}}


ANSWERS: dict[tuple[str, str], Answers] = {
    ("VmViewSet", "list"): {"200": page("vms", "VirtualMachine")},
    ("VmViewSet", "retrieve"): {"200": ref("VirtualMachine")},
    ("VmViewSet", "create"): {"200": DRY_RUN, **long(CREATED, "201")},
    ("VmViewSet", "update"): long(either(CHANGED, OWN_CHANGED)),
    ("VmViewSet", "partial_update"): long(either(CHANGED, OWN_CHANGED)),
    ("VmViewSet", "destroy"): long(DELETED),
    ("VmViewSet", "act"): {**long(ACTED), "201": also(VM_MADE, action=text(enum=["clone"]))},
    ("VmViewSet", "metrics"): {"200": SERIES},
    ("VmViewSet", "console"): {"200": CONSOLE},
    ("VmViewSet", "sizes"): {"200": page("sizes", "Size")},
    ("SnapshotViewSet", "list"): {"200": SNAPSHOTS},
    ("SnapshotViewSet", "create"): long(SNAPSHOT_TAKEN),
    ("SnapshotViewSet", "destroy"): long(SNAPSHOT_DONE),
    ("SnapshotViewSet", "rollback"): long(SNAPSHOT_DONE),
    **resource("SizeViewSet", "Size", "sizes"),
    ("WritableTemplateViewSet", "list"): {"200": page("templates", "Template")},
    ("WritableTemplateViewSet", "retrieve"): {"200": ref("Template")},
    ("WritableTemplateViewSet", "create"): {"200": DRY_RUN, **long(TEMPLATE_MADE, "201")},
    ("WritableTemplateViewSet", "copies"): long(TEMPLATE_COPIED, "201"),
    ("WritableTemplateViewSet", "destroy"): long(TEMPLATE_DELETED),
    ("IsoViewSet", "list"): {"200": ISOS},
    ("ImageViewSet", "list"): {"200": IMAGES},
    ("TaskViewSet", "list"): {"200": page("tasks", "Task")},
    ("TaskViewSet", "retrieve"): {"200": ref("Task")},
    ("TaskViewSet", "log"): {"200": LOG},
    ("TaskViewSet", "cancel"): {**long(OF_ANY_KIND), "201": OF_ANY_KIND},
    ("TaskViewSet", "retry"): {**long(OF_ANY_KIND), "201": OF_ANY_KIND},
    ("NodeViewSet", "list"): {"200": page("nodes", "Node")},
    ("NodeViewSet", "retrieve"): {"200": ref("Node")},
    ("NodeViewSet", "storage"): {"200": page("storage", "Storage")},
    ("NodeViewSet", "networks"): {"200": page("networks", "Network")},
    ("NodeViewSet", "metrics"): {"200": SERIES},
    ("StorageViewSet", "list"): {"200": page("storage", "Storage")},
    ("ClusterViewSet", "list"): {"200": page("clusters", "Cluster")},
    ("ClusterViewSet", "status"): {"200": ref("Cluster")},
    ("ClusterViewSet", "resources"): {"200": RESOURCES},
    **resource("ProjectViewSet", "Project", "projects"),
    **resource("TokenViewSet", "Token", "tokens", once=shown_once("Token")),
    **resource("QuotaViewSet", "Quota", "quotas"),
    **resource("WebhookViewSet", "Webhook", "webhooks", once=shown_once("Webhook")),
    ("WebhookViewSet", "test"): {"202": ref("Delivery")},
    ("DeliveryViewSet", "list"): {"200": page("deliveries", "Delivery")},
    ("DeliveryViewSet", "retrieve"): {"200": ref("Delivery")},
    ("DeliveryViewSet", "redeliver"): {"202": ref("Delivery")},
    ("AuditViewSet", "list"): {"200": page("events", "Event")},
}

# --- what may be asked for in the query ---

ABOUT = {
    "limit": "how many at most",
    "cursor": "where the page begins; from the former page's `next`",
    "cluster": "a cluster's name",
    "node": "a node's name",
    "status": "the state",
    "tag": "has this tag; may be given several times",
    "template": "made from this template",
    "name": "exactly this name",
    "search": "a part of the name",
    "project": "a project's name",
    "refresh": "true: ask Proxmox first",
    "dry_run": "true: check, choose and tell, but change nothing; no Idempotency-Key is looked at",
    "timeframe": "how far back",
    "vm": "a VM's VMID or uuid",
    "kind": "the type of task, e.g. create_vm",
    "storage": "a storage's name",
    "type": "the type of event, e.g. task.failed; may be given several times",
    "subject": "the uuid of what it is about",
    "since": "not before this moment (RFC 3339)",
    "last_event_id": "go on after this event, as with the header Last-Event-ID",
    "revoked": "true: the revoked ones, too",
    "state": "the delivery's state",
}
LIMIT = {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_MAX}
# What is true or false.
FLAGS = {"refresh", "dry_run", "revoked"}
# What is one of a few words, by view.
VALUES: dict[tuple[str, str], list[str]] = {
    ("VmViewSet", "status"): sorted(set(STATUSES)),
    ("TaskViewSet", "status"): list(STATES),
    ("DeliveryViewSet", "state"): list(DELIVERY_STATES),
    **{(view, "timeframe"): list(TIMEFRAMES) for view in ("VmViewSet", "NodeViewSet")},
}
PAGES = ("limit", "cursor")
_ONE = ("cluster",)
_READ = ("cluster", "refresh")
QUERIES: dict[tuple[str, str], tuple[str, ...]] = {
    ("VmViewSet", "list"): (
        *("node", "cluster", "status", "tag", "template", "name", "search", "project", "refresh"),
        *PAGES,
    ),
    ("VmViewSet", "retrieve"): _READ,
    ("VmViewSet", "create"): ("dry_run",),
    **{("VmViewSet", action): _ONE for action in ("update", "partial_update", "destroy", "act")},
    ("VmViewSet", "metrics"): ("cluster", "timeframe"),
    ("VmViewSet", "console"): _ONE,
    ("VmViewSet", "sizes"): PAGES,
    ("SnapshotViewSet", "list"): (*_READ, *PAGES),
    **{("SnapshotViewSet", action): _ONE for action in ("create", "destroy", "rollback")},
    ("SizeViewSet", "list"): PAGES,
    ("WritableTemplateViewSet", "list"): ("cluster", "name", "refresh", *PAGES),
    ("WritableTemplateViewSet", "retrieve"): _READ,
    ("WritableTemplateViewSet", "create"): ("dry_run",),
    ("WritableTemplateViewSet", "destroy"): _ONE,
    ("WritableTemplateViewSet", "copies"): _ONE,
    ("IsoViewSet", "list"): ("cluster", "node", "storage", "refresh", *PAGES),
    ("ImageViewSet", "list"): ("cluster", "node", "storage", "refresh", *PAGES),
    ("TaskViewSet", "list"): ("status", "vm", "kind", *PAGES),
    **{
        ("TaskViewSet", action): ("node", "cluster")
        for action in ("retrieve", "log", "cancel", "retry")
    },
    ("NodeViewSet", "list"): (*_READ, *PAGES),
    ("NodeViewSet", "retrieve"): _READ,
    ("NodeViewSet", "storage"): (*_READ, *PAGES),
    ("NodeViewSet", "networks"): (*_READ, *PAGES),
    ("NodeViewSet", "metrics"): ("cluster", "timeframe"),
    ("StorageViewSet", "list"): (*_READ, *PAGES),
    ("ClusterViewSet", "list"): ("refresh", *PAGES),
    ("ClusterViewSet", "status"): _READ,
    ("ClusterViewSet", "resources"): _READ,
    ("ProjectViewSet", "list"): PAGES,
    ("TokenViewSet", "list"): ("project", "revoked", *PAGES),
    ("QuotaViewSet", "list"): PAGES,
    ("WebhookViewSet", "list"): ("project", *PAGES),
    ("DeliveryViewSet", "list"): ("state", *PAGES),
    ("AuditViewSet", "list"): ("type", "vm", "subject", "project", "since", *PAGES),
    ("EventStreamViewSet", "list"): ("type", "vm", "last_event_id"),
}
