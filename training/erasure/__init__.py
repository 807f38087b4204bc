"""A person's rows and their feedback are removed from the prediction log."""
