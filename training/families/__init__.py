"""The model families that the search chooses from."""
