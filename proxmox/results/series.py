"""Measurements over time."""

from __future__ import annotations

from dataclasses import dataclass

from proxmox.results._read import Row, optional_integer, optional_number, row


@dataclass(frozen=True, slots=True)
class UsagePoint:
    """One moment (`at`, Unix seconds) of a VM or node; None where nothing was measured.

    Disk and network are bytes a second; a node has no disk rates, a VM no load average.
    """

    at: int
    cores: int | None
    cpu_fraction: float | None
    memory_bytes: float | None
    memory_used_bytes: float | None
    disk_bytes: float | None
    disk_used_bytes: float | None
    disk_read_bytes_per_s: float | None
    disk_write_bytes_per_s: float | None
    net_in_bytes_per_s: float | None
    net_out_bytes_per_s: float | None
    load_average: float | None
    iowait_fraction: float | None

    @classmethod
    def from_api(cls, data: object) -> UsagePoint:
        fields = row(data)
        return cls(
            at=int(fields["time"]),
            cores=optional_integer(fields, "maxcpu"),
            cpu_fraction=optional_number(fields, "cpu"),
            memory_bytes=_either(fields, "maxmem", "memtotal"),
            memory_used_bytes=_either(fields, "mem", "memused"),
            disk_bytes=_either(fields, "maxdisk", "roottotal"),
            disk_used_bytes=_either(fields, "disk", "rootused"),
            disk_read_bytes_per_s=optional_number(fields, "diskread"),
            disk_write_bytes_per_s=optional_number(fields, "diskwrite"),
            net_in_bytes_per_s=optional_number(fields, "netin"),
            net_out_bytes_per_s=optional_number(fields, "netout"),
            load_average=optional_number(fields, "loadavg"),
            iowait_fraction=optional_number(fields, "iowait"),
        )


def _either(fields: Row, guest_key: str, node_key: str) -> float | None:
    """Guests and nodes name the same thing differently."""
    value = optional_number(fields, guest_key)
    return optional_number(fields, node_key) if value is None else value
