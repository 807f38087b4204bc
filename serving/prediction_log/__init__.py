"""The log of predictions, and of the actual values that clients report for them."""
