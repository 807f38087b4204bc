"""From a table of data to a gated model in MLflow."""
