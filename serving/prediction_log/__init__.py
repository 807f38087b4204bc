"""What was predicted, and what it should have been."""
