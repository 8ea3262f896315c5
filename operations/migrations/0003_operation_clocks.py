from django.db import migrations, models


class Migration(migrations.Migration):
    """One clock for each kind of trouble, and until when a submitted call may still be sent."""

    dependencies = [("operations", "0002_operations_keep_idempotency_keys")]

    operations = [
        migrations.AddField(
            model_name="operation",
            name="call_ends_at",
            field=models.DateTimeField(
                help_text="no worker sends the submitted call after this", null=True
            ),
        ),
        migrations.AddField(
            model_name="operation",
            name="silent_since",
            field=models.DateTimeField(help_text="the cluster gives no usable answer", null=True),
        ),
        migrations.AddField(
            model_name="operation",
            name="waiting_since",
            field=models.DateTimeField(help_text="somebody else is at work there", null=True),
        ),
        migrations.AlterField(
            model_name="operation",
            name="trouble_since",
            field=models.DateTimeField(help_text="Proxmox refuses, for the moment", null=True),
        ),
        migrations.AddField(
            model_name="operation",
            name="crashed_since",
            field=models.DateTimeField(help_text="our own code fails", null=True),
        ),
    ]
