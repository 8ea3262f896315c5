"""Rows of webhooks, for these tests."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Now

from events.models import Delivery


def reread(row: Any) -> Any:
    return type(row).objects.get(pk=row.pk)


def make_due(delivery: Delivery) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(next_at=Now())
