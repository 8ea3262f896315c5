"""What the API's objects look like, for the OpenAPI description.

Answers are plain dictionaries made by functions (`vm_body`, `task_body` …). Here stands what those
promise, field by field; every field is always there, and none that is not named. The tests hold
each answer against it.
"""

from __future__ import annotations

from typing import Any

from accounts.models import ROLES
from events.models import DELIVERY_STATES
from inventory.views import CLUSTER_STATUSES
from operations.models import ENDED, UNFINISHED
from vms.models import OSTYPES, STATUSES
from vms.series import TIMEFRAMES

Shape = dict[str, Any]


def text(about: str = "", **more: Any) -> Shape:
    return {"type": "string", **({"description": about} if about else {}), **more}


def integer(about: str = "") -> Shape:
    return {"type": "integer", **({"description": about} if about else {})}


def number(about: str = "") -> Shape:
    return {"type": "number", **({"description": about} if about else {})}


def maybe(shape: Shape) -> Shape:
    """Or null, where there is none or it is not known."""
    if "$ref" in shape:
        return {"anyOf": [shape, {"type": "null"}]}
    known = shape["type"] if isinstance(shape["type"], list) else [shape["type"]]
    return {**shape, "type": [*known, "null"]}


def listed(shape: Shape) -> Shape:
    return {"type": "array", "items": shape}


def exactly(**fields: Shape) -> Shape:
    """An object with these fields, all of them and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def also(base: Shape, **fields: Shape) -> Shape:
    return exactly(**base["properties"], **fields)


def page(key: str, name: str) -> Shape:
    """A list as all lists are."""
    return exactly(
        **{key: listed(ref(name))},
        count=integer("how many match in all"),
        next=maybe(text("the next page", format="uri")),
    )


def ref(name: str) -> Shape:
    return {"$ref": f"#/components/schemas/{name}"}


TIME = text(format="date-time")
UUID = text(format="uuid")
FLAG: Shape = {"type": "boolean"}
WORDS = listed(text())
STRINGS: Shape = {"type": "object", "additionalProperties": {"type": "string"}}

VM = exactly(
    id=text("the VMID"),
    uuid=UUID,
    cluster=text(),
    node=maybe(text()),
    project=maybe(text("null: nobody's")),
    name=text(),
    description=text(),
    tags=WORDS,
    metadata=STRINGS,
    status=text(enum=sorted(set(STATUSES))),
    template=maybe(text()),
    os_type=text(enum=list(OSTYPES)),
    os_template=maybe(text("the ISO or image it was installed from")),
    size=maybe(text()),
    cores=integer(),
    memory=integer("MiB"),
    disk_size=number("GiB"),
    ip_address=maybe(text(format="ipv4")),
    ipv6_address=maybe(text(format="ipv6")),
    mac_address=maybe(text()),
    network=maybe(text("the bridge")),
    cloud_init={"type": "object", "description": "as set, without any secret"},
    cpu_usage=number("percent of its cores"),
    memory_used=integer("bytes"),
    disk_read=integer("bytes"),
    disk_write=integer("bytes"),
    net_in=integer("bytes"),
    net_out=integer("bytes"),
    uptime=integer("seconds"),
    protected=FLAG,
    task=maybe(text("the unfinished task", format="uuid")),
    last_error=maybe(text()),
    created_at=TIME,
    updated_at=TIME,
    synced_at=maybe(TIME),
    stale={**FLAG, "description": "not seen at the last look; the values are those seen last"},
)
STEP = exactly(
    name=text(),
    status=text(enum=["waiting", "running", "done", "failed"]),
    upids=WORDS,
    started_at=maybe(TIME),
    ended_at=maybe(TIME),
)
TASK = exactly(
    id=text("Izvor's uuid of it; a UPID for a task that Izvor did not start"),
    type=text("what it does, e.g. create_vm; of a bare UPID Proxmox's word for it"),
    status=text(enum=sorted({*UNFINISHED, *ENDED, "stopped"})),
    upid=maybe(text("the Proxmox task that it waits for, or the last one")),
    node=maybe(text()),
    vmid=maybe(text()),
    placement=maybe({"type": "object", "description": "of a creation: the node, and why that one"}),
    progress=maybe(integer("percent")),
    step=maybe(text()),
    steps=listed(ref("TaskStep")),
    waiting_for=maybe(text()),
    warnings=WORDS,
    error=maybe(text()),
    error_code=maybe(text("stable, for programs")),
    exit_status=maybe(text("in Proxmox's manner: OK, WARNINGS: n, or the error")),
    user=text(),
    created_at=maybe(TIME),
    start_time=maybe(TIME),
    end_time=maybe(TIME),
)
SNAPSHOT = exactly(
    name=text(),
    description=text(),
    vmid=text(),
    parent=maybe(text()),
    created_at=maybe(TIME),
    vm_state={**FLAG, "description": "it holds the memory, too"},
)
SIZE = exactly(
    name=text(),
    cores=integer(),
    memory=integer("MiB"),
    disk_size=integer("GiB"),
    description=text(),
)
NODE = exactly(
    name=text(),
    cluster=text(),
    status=text(),
    cores=maybe(integer()),
    memory=maybe(integer("bytes")),
    memory_used=maybe(integer("bytes")),
    disk_total=maybe(integer("bytes")),
    disk_used=maybe(integer("bytes")),
    cpu_usage=maybe(number("percent")),
    memory_usage=maybe(number("percent")),
    vm_count=maybe(integer()),
    running_vms=maybe(integer()),
    uptime=maybe(integer("seconds")),
    synced_at=TIME,
    stale=FLAG,
)
STORAGE = exactly(
    name=text(),
    cluster=text(),
    type=text(),
    node=maybe(text("null: all of them")),
    total=maybe(integer("bytes")),
    used=maybe(integer("bytes")),
    available=maybe(integer("bytes")),
    usage_percent=maybe(number()),
    content=WORDS,
    shared=FLAG,
    enabled=FLAG,
    synced_at=TIME,
    stale=FLAG,
)
NETWORK = exactly(
    name=text(), node=text(), type=text(), active=FLAG, comment=text(), synced_at=TIME
)
CLUSTER = exactly(
    name=text(),
    status=text(enum=list(CLUSTER_STATUSES)),
    version=maybe(text()),
    quorate=FLAG,
    total_nodes=integer(),
    online_nodes=integer(),
    offline_nodes=integer(),
    error=maybe(text()),
    synced_at=maybe(TIME),
    stale=FLAG,
)
RESOURCES = exactly(
    total_cores=maybe(integer()),
    used_cores=maybe(integer("of running VMs")),
    total_memory=maybe(integer("bytes")),
    used_memory=maybe(integer("bytes")),
    total_storage=maybe(integer("bytes")),
    used_storage=maybe(integer("bytes")),
    total_vms=maybe(integer()),
    running_vms=maybe(integer()),
    stopped_vms=maybe(integer()),
    cpu_usage_percent=maybe(number()),
    memory_usage_percent=maybe(number()),
    storage_usage_percent=maybe(number()),
    synced_at=maybe(TIME),
    stale=FLAG,
    nodes=listed(ref("Node")),
)
IMAGE = exactly(
    id=text("its volume ID in Proxmox"),
    name=text(),
    cluster=text(),
    node=maybe(text("null: all of them")),
    storage=text(),
    format=maybe(text()),
    size=integer("bytes"),
    created_at=maybe(TIME),
)
POINT = exactly(
    time=TIME,
    cpu_usage=maybe(number("percent")),
    memory=maybe(number("bytes")),
    memory_used=maybe(number("bytes")),
    disk=maybe(number("bytes")),
    disk_used=maybe(number("bytes")),
    disk_read=maybe(number("bytes a second")),
    disk_write=maybe(number("bytes a second")),
    net_in=maybe(number("bytes a second")),
    net_out=maybe(number("bytes a second")),
)
TEMPLATE = exactly(
    id=text("the VMID"),
    uuid=UUID,
    cluster=text(),
    name=text(),
    description=text(),
    status=text("ready, or what becomes of it"),
    os_type=text(enum=list(OSTYPES)),
    node=text(),
    nodes=listed(text("a node on which a VM of it needs no move")),
    copies=listed(exactly(id=text(), node=text())),
    copy_of=maybe(text()),
    disk_size=number("GiB"),
    tags=WORDS,
    cloud_init={**FLAG, "description": "it has a cloud-init drive"},
    published={**FLAG, "description": "false: for operators and its project only"},
    project=maybe(text("whose VM it was made of")),
    created_at=maybe(TIME),
    synced_at=maybe(TIME),
    stale=FLAG,
)
SERIES = exactly(timeframe=text(enum=list(TIMEFRAMES)), metrics=listed(ref("UsagePoint")))
LOG = exactly(log=listed(exactly(upid=text(), text=text())))
SNAPSHOTS = also(page("snapshots", "Snapshot"), synced_at=maybe(TIME), stale=FLAG)
ISOS = also(page("isos", "Image"), warnings=WORDS)
IMAGES = also(page("images", "Image"), warnings=WORDS)
COMPONENTS: dict[str, Shape] = {
    "VirtualMachine": VM,
    "Task": TASK,
    "TaskStep": STEP,
    "Snapshot": SNAPSHOT,
    "Size": SIZE,
    "Node": NODE,
    "Storage": STORAGE,
    "Network": NETWORK,
    "Cluster": CLUSTER,
    "Image": IMAGE,
    "UsagePoint": POINT,
    "Template": TEMPLATE,
    "Project": exactly(id=UUID, name=text(), description=text(), created_at=TIME),
    "Token": {
        **exactly(
            id=UUID,
            name=text(),
            project=text(),
            role=text(enum=[role for role, _ in ROLES]),
            prefix=text("how the secret begins"),
            created_at=TIME,
            expires_at=maybe(TIME),
            last_used_at=maybe(TIME),
            revoked_at=maybe(TIME),
        ),
        "additionalProperties": True,
    },
    "Quota": exactly(
        project=text(),
        project_id=UUID,
        **{
            name: exactly(used=maybe(integer()), limit=maybe(integer()))
            for name in ("vms", "cores", "memory", "disk", "snapshots")
        },
    ),
    "Webhook": {
        **exactly(
            id=UUID,
            project=maybe(text("null: everybody's, for operators")),
            url=text(format="uri"),
            description=text(),
            types=WORDS,
            enabled=FLAG,
            failing_since=maybe(TIME),
            created_at=TIME,
        ),
        "additionalProperties": True,
    },
    "Delivery": exactly(
        id=UUID,
        event=exactly(id=integer(), type=text()),
        state=text(enum=list(DELIVERY_STATES)),
        attempts=integer(),
        next_at=maybe(TIME),
        response_status=maybe(integer()),
        response_body=maybe(text()),
        error=maybe(text()),
        duration_ms=maybe(number()),
        created_at=TIME,
        ended_at=maybe(TIME),
    ),
    "Event": exactly(
        id=integer(),
        type=text(),
        time=TIME,
        project=maybe(text()),
        subject=maybe(UUID),
        label=text(),
        by=text(),
        task=maybe(UUID),
        details={"type": "object"},
    ),
}
