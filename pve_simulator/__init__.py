"""A Proxmox VE that is not there: its HTTP API over TLS, with tasks, locks, guests and faults.

A program of its own (`python -m pve_simulator`), which shares no code with the rest, so that a
misunderstanding on one side cannot hide one on the other. What it imitates was observed on a real
Proxmox VE 8.4; `tests/data/pve/exchanges.jsonl` holds those observations.
"""
