"""The admin's sidebar: first what operators watch, then what they set, then what inventory saw."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

PARTS: list[tuple[str, list[tuple[str, str, str]]]] = [
    (
        "Watch",
        [
            ("Virtual machines", "computer", "vms_virtualmachine"),
            ("Tasks", "checklist", "operations_operation"),
            ("Lanes", "alt_route", "operations_lane"),
            ("Events", "history", "events_event"),
            ("Deliveries", "outbox", "events_delivery"),
        ],
    ),
    (
        "Offer",
        [
            ("Sizes", "straighten", "vms_size"),
            ("Templates", "content_copy", "templates_app_template"),
        ],
    ),
    (
        "Clusters",
        [
            ("Clusters", "hub", "clusters_cluster"),
            ("Nodes", "dns", "clusters_node"),
            ("Storages", "hard_drive", "clusters_storage"),
            ("Networks", "lan", "clusters_network"),
        ],
    ),
    (
        "Access",
        [
            ("Projects", "workspaces", "accounts_project"),
            ("API tokens", "key", "accounts_apitoken"),
            ("Webhooks", "webhook", "events_webhook"),
            ("Users", "person", "auth_user"),
            ("Groups", "group", "auth_group"),
        ],
    ),
]


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    return [
        {
            "title": title,
            "separator": True,
            "items": [
                {"title": name, "icon": icon, "link": reverse(f"admin:{model}_changelist")}
                for name, icon, model in pages
            ],
        }
        for title, pages in PARTS
    ]
