"""Django's Postgres, with one thing made fast: see `base`."""
