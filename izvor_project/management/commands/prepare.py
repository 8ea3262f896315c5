"""`manage.py prepare`: everything between an empty database and a service that can start."""

import os
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from clusters.connect import connect, forget_clients
from clusters.environment import register_from_environment
from clusters.models import Cluster
from inventory.cycle import look_at
from inventory.details import read_templates


class Command(BaseCommand):
    help = (
        "Migrates, makes the admin login, registers the cluster of PROXMOX_URL, looks at it once."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        call_command("sync_roles")
        self.make_admin()
        cluster = register_from_environment()
        if cluster is None:
            if not Cluster.objects.filter(is_enabled=True).exists():
                self.stdout.write("No PROXMOX_URL: add a cluster in the admin.")
            return
        look_at(cluster, with_details=False)
        if cluster.is_online:
            read_templates(cluster, connect(cluster))
        cluster.refresh_from_db()
        said = f"Cluster {cluster} at {', '.join(cluster.endpoints)} is {cluster.state}"
        self.stdout.write(f"{said}: {cluster.error}" if cluster.error else f"{said}.")
        if cluster.is_insecure:
            self.stderr.write(
                "PROXMOX_INSECURE=true: TLS is not checked, and anyone on the way to Proxmox could "
                "read its password and change what is sent. Use PROXMOX_CA_FILE or "
                "PROXMOX_FINGERPRINT instead."
            )
        forget_clients()

    def make_admin(self) -> None:
        """From IZVOR_ADMIN_USERNAME and IZVOR_ADMIN_PASSWORD, if there is no such user yet."""
        name = os.environ.get("IZVOR_ADMIN_USERNAME", "")
        password = os.environ.get("IZVOR_ADMIN_PASSWORD", "")
        users = get_user_model().objects
        if name and password and not users.filter(username=name).exists():
            users.create_superuser(username=name, password=password)
            self.stdout.write(f"Made the admin login {name}.")
