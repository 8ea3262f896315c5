import django.contrib.postgres.fields
from django.db import migrations, models


def keep_ids(apps, schema_editor):
    keys = apps.get_model("operations", "IdempotencyKey").objects
    for key in keys.select_related("operation"):
        key.operations = [key.operation.uuid]
        key.save(update_fields=["operations"])


class Migration(migrations.Migration):
    dependencies = [("operations", "0003_operation_clocks")]

    operations = [
        migrations.AddField(
            model_name="idempotencykey",
            name="operations",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.UUIDField(), default=list, size=None
            ),
        ),
        migrations.RunPython(keep_ids, migrations.RunPython.noop),
        migrations.RemoveField(model_name="idempotencykey", name="operation"),
    ]
