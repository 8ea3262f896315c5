"""Izvor's settings, all of them from the environment; a bad value fails with one sentence.

The variables are listed, with their meaning, in `.env.example`.
"""

import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from kombu.entity import Queue

from izvor_project import env

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

# --- Where we listen, and who may come in ---

IZVOR_BIND = env.text("IZVOR_BIND", "127.0.0.1")
IZVOR_PORT = env.integer("IZVOR_PORT", 8082, 1, 65535)
IZVOR_AUTH = env.choice("IZVOR_AUTH", "token", ("token", "none"))
if IZVOR_AUTH == "none" and not env.is_loopback(IZVOR_BIND):
    raise ImproperlyConfigured(
        f"IZVOR_AUTH=none gives everyone who reaches {IZVOR_BIND} all rights: it is allowed only "
        "with IZVOR_BIND=127.0.0.1. Use IZVOR_AUTH=token, or bind to loopback."
    )

# Whose X-Forwarded-Proto and X-Forwarded-For are believed; nobody else's are.
IZVOR_TRUSTED_PROXIES = env.networks("IZVOR_TRUSTED_PROXIES")
IZVOR_HTTPS = env.flag("IZVOR_HTTPS", False)
if IZVOR_HTTPS and not IZVOR_TRUSTED_PROXIES:
    raise ImproperlyConfigured(
        "IZVOR_HTTPS=true needs IZVOR_TRUSTED_PROXIES: the address of the proxy that speaks TLS, "
        "whose word that a request came over https is taken."
    )
IZVOR_WEB_PROCESSES = env.integer("IZVOR_WEB_PROCESSES", 1, 1, 64)
# Where a worker shows its metrics, on IZVOR_BIND; 0: nowhere.
IZVOR_WORKER_METRICS_PORT = env.integer("IZVOR_WORKER_METRICS_PORT", 0, 0, 65535)

DEBUG = False
SECRET_KEY = env.required(
    "IZVOR_SECRET_KEY",
    "It signs sessions and encrypts stored credentials: set it to a long random text and keep it.",
)
SECRET_KEY_FALLBACKS = env.words("IZVOR_SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *env.words("IZVOR_ALLOWED_HOSTS")]
CSRF_TRUSTED_ORIGINS = env.words("IZVOR_TRUSTED_ORIGINS")

# --- Django ---

INSTALLED_APPS = [
    # Its own site class gives way to ours, which IzvorAdminConfig names.
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "izvor_project.apps.IzvorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "accounts",
    "events",
    "clusters",
    "operations",
    "templates_app",
    "vms",
    "inventory",
    "access",
    "izvor_project.apps.IzvorProjectConfig",
]

MIDDLEWARE = [
    "izvor_project.metrics.requests.MeasureMiddleware",
    "izvor_project.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "izvor_project.middleware.PolicyMiddleware",
    "izvor_project.middleware.AdminPolicyMiddleware",
    "izvor_project.middleware.LoopbackGuardMiddleware",
    "izvor_project.middleware.BodyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "izvor_project.urls"
ASGI_APPLICATION = "izvor_project.asgi.application"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
APPEND_SLASH = False
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = "izvor_project.formats"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
# The image collects static files there; elsewhere they come straight from the installed packages.
STATIC_ROOT = Path(root) if (root := env.text("IZVOR_STATIC_ROOT")) else None
# What the console's page needs of noVNC, if npm has installed it (launcher/npm.py).
NOVNC = BASE_DIR / "node_modules" / "@novnc" / "novnc"
STATICFILES_DIRS = [
    (f"novnc/{part}", NOVNC / part) for part in ("core", "vendor") if (NOVNC / part).is_dir()
]
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if IZVOR_HTTPS:
    SECURE_SSL_REDIRECT = True
    # Asked from within: by the container's own check, by Prometheus.
    SECURE_REDIRECT_EXEMPT = [r"^health(/|$)", r"^metrics$"]
    SECURE_HSTS_SECONDS = 31_536_000
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    # Other names below ours, and browsers' built-in lists, are not for us to decide about.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "izvor_project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator")
]

# --- Postgres ---

_why = "`make dev` starts a database of its own; elsewhere give postgres://user:password@host/name."
DATABASES: dict[str, dict[str, Any]] = {"default": env.database("DATABASE_URL", _why)}
DATABASES["default"]["ENGINE"] = "izvor_project.postgres"
DATABASES["default"]["ATOMIC_REQUESTS"] = False
# Each request and each Celery task takes a connection from the pool, which sees first whether it
# still works (0.1 ms): a database that was restarted is noticed by nobody.
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"].setdefault("OPTIONS", {}).update(
    pool={
        "min_size": 0,
        "max_size": env.integer("IZVOR_DB_POOL", 32, 2, 500),
        "timeout": 10,
        "max_idle": 60,
        # Then it begins anew, and soon: else it tries ever more rarely while Postgres is away.
        "reconnect_timeout": 5,
    },
    application_name="izvor",
    # A Postgres that has vanished, with its machine or a network, is noticed within this.
    connect_timeout=10,
    tcp_user_timeout=30_000,
    keepalives_idle=30,
    # Django switches psycopg's preparing off with None. Only `prepared_cursor` makes use of it.
    prepare_threshold=5,
)

# --- Redis: broker, cache, "it ended" messages ---

REDIS_URL, CELERY_BROKER_URL = env.redis_urls(
    env.required("REDIS_URL", "`make dev` starts one of its own; elsewhere give redis://host:6379.")
)
# Several Izvors on one server stay apart by this prefix.
REDIS_PREFIX = env.text("IZVOR_REDIS_PREFIX", "izvor")

CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": f"{REDIS_PREFIX}:",
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    # Messages are hints (the rows are the truth), so one that a dead worker held need not wait.
    "visibility_timeout": 60,
    # A request whose hint cannot be sent is answered at once; the sweeper sends it later.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# For Flower: turns tell of themselves, by name (operations/queue.py). The clockwork's tasks do not:
# there are several a second, and there would be little else to see.
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_ANNOTATIONS = {
    name: {"send_events": False}
    for name in (
        "operations.sweep",
        "operations.poll",
        "operations.clean",
        "inventory.tick",
        "inventory.cycle",
        "inventory.reconcile",
        "events.tick",
        "events.deliver",
        "events.clean",
    )
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_TASK_DEFAULT_QUEUE = "turns"
# Watching has a queue of its own, and so has telling webhooks, so that a deploy can give each
# workers of its own.
CELERY_TASK_QUEUES = [
    Queue(name, routing_key=name)  # type: ignore[no-untyped-call]
    for name in ("turns", "watch", "deliver")
]
CELERY_TASK_ROUTES = {
    "operations.poll": {"queue": "watch"},
    "operations.clean": {"queue": "watch"},
    "inventory.*": {"queue": "watch"},
    "events.deliver": {"queue": "deliver"},
    "events.*": {"queue": "watch"},
}

# --- The REST API ---

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["izvor_project.api.authentication.Authentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.MayUseApi"],
    "DEFAULT_THROTTLE_CLASSES": ["izvor_project.api.throttling.Throttle"],
    "DEFAULT_RENDERER_CLASSES": ["izvor_project.api.renderers.JsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["izvor_project.api.parsers.StrictJsonParser"],
    "EXCEPTION_HANDLER": "izvor_project.api.problems.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "izvor_project.api.schema.Schema",
    "UNAUTHENTICATED_USER": None,
    # JSON is all there is; ?format= is as unknown as any other parameter.
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Izvor",
    "DESCRIPTION": "Virtual machines on Proxmox VE, as a service.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVERS": [{"url": "/"}],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "izvor_project.api.schema.without_trailing_slashes",
        "izvor_project.api.schema.with_components",
    ],
}

# The count of a list of at least so many is kept for so many seconds.
COUNTS = {"many": 10_000, "kept_s": 5.0}
# How much one token may ask in a minute, and one address fail to log in as one person; 0: no limit.
RATES = {
    "requests": env.integer("IZVOR_RATE_REQUESTS", 600, 0, 1_000_000),
    "tokens": env.integer("IZVOR_RATE_TOKENS", 60, 0, 1_000_000),
    "logins": env.integer("IZVOR_RATE_LOGINS", 10, 0, 1_000_000),
}

# --- Events: how they are kept and told ---

EVENTS = {
    "keep_days": env.integer("IZVOR_EVENTS_KEEP_DAYS", 90, 1, 36_500),
    # In seconds. The stream: a look without a word, the shortest time between two looks, the sign
    # of life, and how often a listener's token is looked at again.
    "look_s": 1.0,
    "gather_s": 0.1,
    "heartbeat_s": 15.0,
    "recheck_s": 30.0,
    # A listener that lets this much pile up is cut off; it may come back and read on.
    "queue_bytes": 1024 * 1024,
}
WEBHOOKS: dict[str, Any] = {
    "timeout_s": 10.0,
    "lease_s": 60.0,
    "backoff_s": 5.0,
    "backoff_max_s": 4 * 3600.0,
    "give_up_s": 24 * 3600.0,
    "disable_after_s": 3 * 24 * 3600.0,
    "senders": 4,  # how many of a worker's threads tell webhooks at once
    # Webhooks reach public addresses only, unless an operator of Izvor says so.
    "allow_private": env.flag("IZVOR_WEBHOOK_ALLOW_PRIVATE", False),
    "allowed": env.networks("IZVOR_WEBHOOK_ALLOW"),
}

# --- Proxmox ---

PROXMOX = {
    "url": env.text("PROXMOX_URL"),
    "user": env.text("PROXMOX_USER", "root@pam"),
    "password": env.secret("PROXMOX_PASSWORD"),
    "token_id": env.text("PROXMOX_TOKEN_ID"),
    "token_secret": env.secret("PROXMOX_TOKEN_SECRET"),
    "node": env.text("PROXMOX_NODE"),
    "is_insecure": env.flag("PROXMOX_INSECURE", False),
    "ca_file": env.text("PROXMOX_CA_FILE"),
    "fingerprint": env.text("PROXMOX_FINGERPRINT"),
    # The launcher says "simulator"; such rows never meet a real cluster, nor real rows a simulator.
    "kind": env.choice("IZVOR_PROXMOX_KIND", "proxmox", ("proxmox", "simulator")),
}

# Where the ISO images with VMs' user-data go; empty: where ISO images go, shared storages first.
IZVOR_USERDATA_STORAGE = env.text("IZVOR_USERDATA_STORAGE")

# --- The engine: how long things may take, in seconds ---

ENGINE = {
    "lease_s": 20.0,
    "heartbeat_s": 5.0,
    "call_s": 20.0,  # total deadline of one Proxmox call
    "grace_s": 10.0,  # after a lost answer: how long Proxmox may still be acting on it
    "turn_s": 10.0,  # a turn starts no new step after this
    "sweep_s": 2.0,
    "poll_s": 1.0,
    "quick_poll_s": 0.25,  # while few tasks run
    "unreachable_patience_s": 3600.0,
    "backoff_s": 1.0,
    "backoff_max_s": 30.0,
}
INVENTORY_CYCLE_S = 10.0

# --- The console, in seconds ---

CONSOLE = {
    "ticket_s": 60.0,
    "open_s": 10.0,
    # Nobody pressed a key or moved the pointer.
    "idle_s": float(env.integer("IZVOR_CONSOLE_IDLE_S", 3600, 60, 604_800)),
    "longest_s": float(env.integer("IZVOR_CONSOLE_LONGEST_S", 43_200, 60, 604_800)),
    # How soon a right that was taken away ends what is open.
    "recheck_s": 10.0,
    # One side took nothing of what the other sent.
    "stalled_s": 60.0,
    # In one web process.
    "sessions": 200,
}

# --- Logs ---

IZVOR_LOG_FORMAT = env.choice("IZVOR_LOG_FORMAT", "console", ("console", "json"))
LOGGING_CONFIG = None
from izvor_project import logs  # noqa: E402

logs.configure(
    IZVOR_LOG_FORMAT, env.choice("IZVOR_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
)

# --- The admin ---

UNFOLD = {
    "SITE_TITLE": "Izvor",
    "SITE_HEADER": "Izvor",
    "SITE_SUBHEADER": "EC2 for Proxmox VE",
    "SITE_SYMBOL": "water_drop",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": "izvor_project.navigation.favicon"}
    ],
    "SHOW_HISTORY": True,
    "LOGIN": {"form": "access.login.LoginForm"},
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "izvor_project.home.page.fill",
    "STYLES": ["izvor_project.navigation.style_sheet"],
    "SCRIPTS": ["izvor_project.navigation.script"],
    "SIDEBAR": {"show_search": True, "navigation": "izvor_project.navigation.sidebar"},
}

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "izvor_project.settings")
