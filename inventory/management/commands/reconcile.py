"""`manage.py reconcile`: where clusters and database differ; with `--repair` it is put right."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from clusters.models import ONLINE, Cluster
from inventory import reconcile
from operations.refusals import Refusal
from proxmox import ProxmoxError


class Command(BaseCommand):
    help = "Lists what differs between the clusters and Izvor's database (rules R1, R2, R3)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--repair", nargs="+", default=[], choices=["R1", "R2", "R3"], metavar="RULE"
        )

    def handle(self, *args: Any, repair: list[str], **options: Any) -> None:
        for cluster in Cluster.objects.filter(is_enabled=True):
            if cluster.state != ONLINE:
                self.stdout.write(f"{cluster}: {cluster.state}; its rows are left as they are.")
                continue
            for finding in reconcile.findings(cluster):
                self.stdout.write(f"{cluster} {finding.rule}: {finding.what}")
                if finding.rule in repair and finding.vm is not None:
                    self.repair(finding)
            try:
                for volume, why in reconcile.lost_files(cluster).items():
                    self.stdout.write(f"{cluster} R2: {volume} {why}")
            except ProxmoxError as error:
                self.stderr.write(f"{cluster}: the storages' files could not be listed: {error}")

    def repair(self, finding: reconcile.Finding) -> None:
        assert finding.vm is not None, "handle() has seen it"
        try:
            done = reconcile.repair_one(finding.rule, finding.vm)
        except Refusal as refusal:
            self.stderr.write(f"  not repaired: {refusal.detail}")
        else:
            self.stdout.write("  repaired" if done else "  not yet: it may come back within a day")
