from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig


class IzvorAdminConfig(SimpleAdminConfig):
    """Django's admin, with our site in place of its own."""

    default_site = "accounts.admin_site.IzvorAdminSite"


class IzvorProjectConfig(AppConfig):
    """The project's own management commands (`prepare`, `serve`) and start-up."""

    name = "izvor_project"
    label = "izvor_project"
    verbose_name = "Izvor"
