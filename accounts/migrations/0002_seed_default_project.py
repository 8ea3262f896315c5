"""The project that tokens and VMs belong to until an operator makes others. Run once."""

from django.db import migrations


def seed(apps, schema_editor):
    Project = apps.get_model("accounts", "Project")
    Project.objects.get_or_create(
        name="default", defaults={"description": "Where everything begins"}
    )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
