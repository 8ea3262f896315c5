"""Django and Celery with nothing of ours in them: what their processes take by themselves."""
