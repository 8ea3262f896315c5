"""Izvor's own settings, and one address more: the floor that answers are measured against."""

from izvor_project.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.urls"
