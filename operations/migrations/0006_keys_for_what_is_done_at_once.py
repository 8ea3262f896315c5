from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("operations", "0005_operation_retries")]

    operations = [
        migrations.AddField(
            model_name="idempotencykey",
            name="made",
            field=models.CharField(blank=True, help_text="e.g. token:<uuid>", max_length=80),
        ),
        migrations.AddField(
            model_name="idempotencykey",
            name="status",
            field=models.PositiveSmallIntegerField(help_text="of what was done at once", null=True),
        ),
        migrations.AddConstraint(
            model_name="idempotencykey",
            constraint=models.CheckConstraint(
                condition=models.Q(("status", None), ("operations", []), _connector="OR"),
                name="a_key_stands_for_one_result",
            ),
        ),
    ]
