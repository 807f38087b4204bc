"""What training writes and serving reads: the contract of a model, its files and how rows become a matrix."""

__version__ = "0.2.0"
