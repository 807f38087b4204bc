"""MLflow: runs, registered versions, their aliases, and the file that it scores them with."""
