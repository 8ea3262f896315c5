"""`manage.py create_token NAME`: the way to the first API token."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError

from accounts.models import ROLES, ApiToken, Project


class Command(BaseCommand):
    help = "Makes an API token and prints it; it is shown this once and stored only as a digest."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the audit will call it, e.g. ci")
        parser.add_argument("--project", default="default", help="made if it does not exist")
        parser.add_argument("--role", default="member", choices=[role for role, _ in ROLES])

    def handle(self, *args: Any, **options: Any) -> None:
        project = self.project(options["project"])
        try:
            _, text = ApiToken.objects.issue(
                name=options["name"], project=project, role=options["role"]
            )
        except IntegrityError:
            raise CommandError(
                f"The project {project} has a token named {options['name']}. "
                "Revoke it in the admin, or choose another name."
            ) from None
        self.stdout.write(text)

    def project(self, name: str) -> Project:
        found = Project.objects.filter(name=name).first()
        if found is not None:
            return found
        made = Project(name=name)
        try:
            made.full_clean()
        except ValidationError:
            raise CommandError(
                f"{name!r} cannot be a project: up to 63 letters, digits, hyphens, underscores."
            ) from None
        made.save()
        return made
