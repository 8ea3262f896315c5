from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_seed_default_project")]

    operations = [
        migrations.AddField(
            model_name="quota",
            name="snapshots",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
    ]
