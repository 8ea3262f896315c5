"""Tasks: what is running, what waits and for what, what failed and why. And lanes, to edit."""

from operations.admin.lanes import ClaimAdmin, LaneAdmin
from operations.admin.tasks import OperationAdmin

__all__ = ["ClaimAdmin", "LaneAdmin", "OperationAdmin"]
