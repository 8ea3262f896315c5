"""What a process has no use for, it does not load."""

from __future__ import annotations

import subprocess
import sys

from django.conf import settings

WORKER = """
import sys
from izvor_project.celery import app
app.loader.import_default_modules()
assert "operations.turn" in app.tasks
print(*sorted(sys.modules))
"""


def test_a_worker_and_beat_load_no_pages():
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "vms.plans" in loaded
    assert not loaded & {"izvor_project.urls", "vms.admin", "unfold.admin", "drf_spectacular.views"}
