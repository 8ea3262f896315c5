"""The two roles of people in the admin. Their permissions exist only after all migrations, so
`manage.py sync_roles` (which `prepare` runs) gives them."""

from django.db import migrations


def seed(apps, schema_editor):
    Group = apps.get_model("auth", "Group")
    for name in ("operators", "viewers"):
        Group.objects.get_or_create(name=name)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_quota_snapshots"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
