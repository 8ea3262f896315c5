from django.apps import AppConfig


class IzvorProjectConfig(AppConfig):
    """The project's own management commands (`prepare`, `serve`) and start-up."""

    name = "izvor_project"
    label = "izvor_project"
    verbose_name = "Izvor"
