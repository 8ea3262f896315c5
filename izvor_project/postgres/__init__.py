"""Django's Postgres, with two things made fast: see `base`."""
