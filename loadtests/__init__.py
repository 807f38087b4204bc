"""Load tests with Locust; they start in `locustfile.py`."""
