"""Load tests with Locust; `locustfile.py` is where they begin."""
