from django.apps import AppConfig


class AccessConfig(AppConfig):
    """Verbs, API and admin of what `accounts` and `events` hold; it has no rows of its own."""

    name = "access"
    verbose_name = "Access"
