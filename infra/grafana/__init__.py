"""Dashboards as code: what is shown stands in `regions.py`, `streams.py` and `models.py`, JSON in `dashboards/`."""
