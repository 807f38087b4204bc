"""Rows to scores: what is live, the batcher, drift."""
