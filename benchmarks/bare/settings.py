"""Izvor's settings of the servers and of Celery, and none of its applications."""

from __future__ import annotations

import os

import environ
from kombu.entity import Queue

SECRET_KEY = os.environ["IZVOR_SECRET_KEY"]
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "rest_framework",
]
ROOT_URLCONF = "benchmarks.bare.urls"
DATABASES = {"default": environ.Env().db("DATABASE_URL")}
DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
    "min_size": 0,
    "max_size": 32,
    "timeout": 10,
    "max_idle": 60,
}
CELERY_BROKER_URL = os.environ["BARE_BROKER_URL"]
CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": "bare:"}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "turns"
CELERY_TASK_QUEUES = [
    Queue(name, routing_key=name)  # type: ignore[no-untyped-call]
    for name in ("turns", "watch", "deliver")
]
CELERY_WORKER_SEND_TASK_EVENTS = True
