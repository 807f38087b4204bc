"""A file becomes a table: where it is, how it is read, what its columns are, what a person should look at."""
