"""The admin's sidebar: first what operators watch, then what they set, then what inventory saw."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
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
    home = {"title": "Home", "icon": "home", "link": reverse("admin:index")}
    parts = [
        {
            "title": title,
            "separator": True,
            "items": [
                {"title": name, "icon": icon, "link": reverse(f"admin:{model}_changelist")}
                for name, icon, model in pages
                if may_see(request, model)
            ],
        }
        for title, pages in PARTS
    ]
    return [{"items": [home], "separator": False}, *parts]


def may_see(request: HttpRequest, model: str) -> bool:
    app, _, name = model.rpartition("_")
    return request.user.has_perm(f"{app}.view_{name}")


def style_sheet(request: HttpRequest) -> str:
    return static("izvor/admin.css")


def script(request: HttpRequest) -> str:
    return static("izvor/admin.js")


def favicon(request: HttpRequest) -> str:
    return static("izvor/favicon.svg")
