"""The way from a champion in the registry to a running server."""

DEFAULT_IMAGE = "okamochi:local"
DEFAULT_BASE_IMAGE = "python:3.11-slim"
