"""The web process: Django behind the layers that wait, stream and show consoles."""

import os
from typing import cast

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "izvor_project.settings")
django.setup(set_prefix=False)

# Only now: they read models, which the line above has made known.
# With the addresses comes all that answers, which would else be imported by the first request.
from izvor_project import urls  # noqa: E402, F401
from izvor_project.console.relay import ConsoleRelay  # noqa: E402
from izvor_project.garbage import keep_what_is_loaded  # noqa: E402
from izvor_project.handler import Handler  # noqa: E402
from izvor_project.listening import App  # noqa: E402
from izvor_project.loopback import LoopbackOnly  # noqa: E402
from izvor_project.streaming import StreamLayer  # noqa: E402
from izvor_project.waiting import WaitLayer  # noqa: E402

application = LoopbackOnly(WaitLayer(StreamLayer(ConsoleRelay(cast("App", Handler())))))
keep_what_is_loaded()
