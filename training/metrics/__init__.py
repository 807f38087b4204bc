"""What scores are worth: the metrics, the noise of them, and what they are for parts of the rows."""
