"""`/health`: do clusters answer; `/health/live`: do we; `/health/ready`: is all we need there."""

from __future__ import annotations

from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse

from clusters.models import Cluster

SERVICE = "izvor"


def health(request: HttpRequest) -> JsonResponse:
    """Healthy while one enabled cluster answers; the rows say what inventory saw last."""
    try:
        clusters = list(Cluster.objects.filter(is_enabled=True))
    except DatabaseError:
        return unhealthy("The database cannot be reached.")
    listed = [cluster_body(cluster) for cluster in clusters]
    online = [cluster for cluster in clusters if cluster.is_online]
    if online:
        return JsonResponse(
            {
                "status": "healthy",
                "service": SERVICE,
                "version": settings.VERSION,
                "proxmox_version": online[0].version,
                "clusters": listed,
            }
        )
    if not clusters:
        return unhealthy("No cluster is configured: set PROXMOX_URL, or add one in the admin.")
    first = clusters[0]
    return unhealthy(first.error or f"Cluster {first} has not answered yet.", clusters=listed)


def live(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "healthy", "service": SERVICE})


def ready(request: HttpRequest) -> JsonResponse:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM vms_size LIMIT 1")
    except DatabaseError:
        return unhealthy("The database cannot be reached, or `manage.py prepare` has not run.")
    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2).ping()
    except redis.RedisError:
        return unhealthy("Redis cannot be reached.")
    return JsonResponse({"status": "healthy", "service": SERVICE})


def cluster_body(cluster: Cluster) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "status": cluster.state,
        "proxmox_version": cluster.version or None,
        "error": cluster.error or None,
        "seen_at": cluster.seen_at,
    }


def unhealthy(error: str, **more: Any) -> JsonResponse:
    body = {"status": "unhealthy", "service": SERVICE, "error": error, **more}
    return JsonResponse(body, status=503)
