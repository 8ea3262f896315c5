"""The audit."""

from django.contrib import admin

from accounts.admin_site import ReadOnlyAdmin, pretty
from events.models import Event


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ["at", "kind", "subject_label", "actor", "project"]
    list_filter = ["kind", "project"]
    search_fields = ["kind", "subject_label", "actor", "subject"]
    list_select_related = ["project"]
    show_full_result_count = False
    fields = ["at", "kind", "actor", "project", "subject_label", "subject", "task", "details"]

    @admin.display(description="data")
    def details(self, event: Event) -> str:
        return pretty(event.data)
