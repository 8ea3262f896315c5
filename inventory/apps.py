from django.apps import AppConfig


class InventoryConfig(AppConfig):
    name = "inventory"
    verbose_name = "Inventory"

    def ready(self) -> None:
        """Apps below have clusters looked at through `clusters.looking`."""
        from clusters.looking import looks
        from inventory.cycle import look_now

        looks(look_now)
