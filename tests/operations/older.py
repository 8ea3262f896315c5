"""Settings of a worker one version behind: it makes VMs without `grow_disk`, and changes none."""

import dataclasses

from django.apps import AppConfig

from izvor_project.settings import *  # noqa: F403
from izvor_project.settings import INSTALLED_APPS


class Older(AppConfig):
    name = "tests.operations.older"

    def ready(self) -> None:
        from operations import plans

        create = plans.plan_for("create_vm")
        steps = tuple(step for step in create.steps if step.name != "grow_disk")
        assert len(steps) == len(create.steps) - 1
        plans._plans["create_vm"] = dataclasses.replace(create, steps=steps)
        del plans._plans["update_vm"]


INSTALLED_APPS = [*INSTALLED_APPS, "tests.operations.older.Older"]
