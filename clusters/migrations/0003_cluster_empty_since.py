from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("clusters", "0002_cluster_repairs")]

    operations = [
        migrations.AddField(
            model_name="cluster",
            name="empty_since",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
