"""How good scores are: metrics, their intervals, slices of the rows, and the importance of columns."""
