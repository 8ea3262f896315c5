"""The order in which events are told, and the sequence that it is taken from (events.outbox)."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("events", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="event",
            name="seq",
            field=models.BigIntegerField(
                editable=False,
                help_text="given after the commit",
                null=True,
                unique=True,
                verbose_name="number",
            ),
        ),
        migrations.AddIndex(
            model_name="event",
            index=models.Index(fields=["project", "seq"], name="events_of_a_project"),
        ),
        migrations.AddIndex(
            model_name="event",
            index=models.Index(fields=["at"], name="events_by_time"),
        ),
        migrations.AddIndex(
            model_name="event",
            index=models.Index(condition=models.Q(("seq", None)), fields=["id"], name="events_to_number"),
        ),
        # Of its own rather than the column's: emptying the table must not start it again.
        migrations.RunSQL(
            "CREATE SEQUENCE events_event_numbers AS bigint",
            "DROP SEQUENCE events_event_numbers",
        ),
    ]
