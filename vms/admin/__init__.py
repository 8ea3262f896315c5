"""VMs, whose state follows Proxmox and which are acted on by verbs; templates; and sizes, which
operators make."""

from vms.admin.machines import VirtualMachineAdmin
from vms.admin.sizes import SizeAdmin
from vms.admin.templates import TemplateAdmin

__all__ = ["SizeAdmin", "TemplateAdmin", "VirtualMachineAdmin"]
