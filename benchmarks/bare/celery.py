"""One task every two seconds, which reads the database."""

from celery import Celery

app = Celery("bare")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.beat_schedule = {"look": {"task": "bare.look", "schedule": 2.0}}


@app.task(name="bare.look")  # type: ignore[untyped-decorator]
def look() -> None:
    from django.contrib.contenttypes.models import ContentType

    ContentType.objects.count()
