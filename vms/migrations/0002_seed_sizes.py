"""The sizes Izvor ships. Run once: what operators change or remove later stays so."""

from django.db import migrations

SIZES = [
    ("nano", 1, 256, 5, "For the smallest chores"),
    ("micro", 1, 512, 10, "For a proxy or a bot"),
    ("small", 1, 1024, 20, "For a small site"),
    ("medium", 2, 2048, 40, "For an application"),
    ("large", 4, 4096, 80, "For a database"),
    ("xlarge", 8, 8192, 160, "For a busy service"),
    ("xxlarge", 16, 16384, 320, "For heavy work"),
]


def seed(apps, schema_editor):
    Size = apps.get_model("vms", "Size")
    for name, cores, memory_mib, disk_gib, description in SIZES:
        Size.objects.get_or_create(
            name=name,
            defaults={
                "cores": cores,
                "memory_mib": memory_mib,
                "disk_gib": disk_gib,
                "description": description,
            },
        )


class Migration(migrations.Migration):
    dependencies = [("vms", "0001_initial")]

    # Undoing it removes nothing: the rows may be an operator's by now.
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
