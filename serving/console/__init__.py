"""The console: pages that a person opens to see what is live and to ask a model about one row."""
