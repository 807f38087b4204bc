"""Tags of versions in MLflow's registry that training writes and others read; it imports nothing."""

SIGNATURE = "okamochi.signature"
"""The signature of a version, as `artifact.signing` makes it."""
