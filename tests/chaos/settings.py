"""Izvor's own settings with the engine's times shortened, as in the other tests."""

from izvor_project.settings import *  # noqa: F403
from izvor_project.settings import ENGINE

ENGINE.update(lease_s=4.0, heartbeat_s=1.0, call_s=6.0, grace_s=2.0, backoff_max_s=3.0)
INVENTORY_CYCLE_S = 3.0
