from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('operations', '0006_keys_for_what_is_done_at_once'),
    ]

    operations = [
        migrations.AddField(
            model_name='operation',
            name='request_id',
            field=models.CharField(blank=True, db_default='', default='', help_text='of the HTTP request that asked for it; its log lines carry it too', max_length=64),
        ),
    ]
