"""The web process: Django behind the console's relay (websockets) and the wait layer (requests)."""

import os
from typing import cast

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "izvor_project.settings")
django_app = get_asgi_application()

# Only now: they read models, which the line above has made known.
from izvor_project.console.relay import ConsoleRelay  # noqa: E402
from izvor_project.loopback import LoopbackOnly  # noqa: E402
from izvor_project.waiting import App, WaitLayer  # noqa: E402

application = LoopbackOnly(WaitLayer(ConsoleRelay(cast("App", django_app))))
