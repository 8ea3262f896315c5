"""Izvor's own settings with the test's secret, and times shortened; nothing is switched off."""

import os

os.environ.setdefault("IZVOR_SECRET_KEY", "the tests' own key")
os.environ.setdefault("DATABASE_URL", "postgres://izvor@localhost/izvor")
os.environ.setdefault("REDIS_URL", "redis://localhost:6379/0")
os.environ.setdefault("IZVOR_LOG_LEVEL", "WARNING")
# Tests that run side by side share one broker: each process has its own corner of it.
os.environ["IZVOR_REDIS_PREFIX"] = f"izvor-tests-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"

from izvor_project.settings import *  # noqa: F403
from izvor_project.settings import ENGINE

ENGINE.update(
    lease_s=3.0, heartbeat_s=0.5, call_s=5.0, grace_s=1.0, backoff_s=0.05, backoff_max_s=0.5
)
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
