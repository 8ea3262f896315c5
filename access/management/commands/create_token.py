"""`manage.py create_token NAME`: the way to the first API token."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from access.actions import create_project, create_token
from accounts.actors import OPERATOR, Actor
from accounts.models import ROLES, Project
from operations.refusals import Refusal


class Command(BaseCommand):
    help = "Makes an API token and prints it; it is shown this once and stored only as a digest."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the audit will call it, e.g. ci")
        parser.add_argument("--project", default="default", help="made if it does not exist")
        parser.add_argument("--role", default="member", choices=[role for role, _ in ROLES])

    def handle(self, *args: Any, **options: Any) -> None:
        by = Actor(name="manage.py", role=OPERATOR)
        try:
            _, text = create_token(
                name=options["name"],
                project=self.project(options["project"], by),
                role=options["role"],
                expires_at=None,
                by=by,
            )
        except Refusal as refusal:
            raise CommandError(refusal.detail) from None
        self.stdout.write(text)

    def project(self, name: str, by: Actor) -> Project:
        found: Project | None = Project.objects.filter(name=name).first()
        if found is not None:
            return found
        try:
            Project(name=name).full_clean()
        except ValidationError:
            raise CommandError(
                f"{name!r} cannot be a project: up to 63 letters, digits, hyphens, underscores."
            ) from None
        return create_project(name=name, description="", by=by)
