"""Which items are ranked highest for whom: how well that is done, and the ranking that an artifact holds."""
