from django.apps import AppConfig


class VmsConfig(AppConfig):
    name = "vms"
    verbose_name = "Virtual machines"

    def ready(self) -> None:
        """Plans register by kind; the engine looks them up there."""
        from vms import plans

        plans.register_all()
