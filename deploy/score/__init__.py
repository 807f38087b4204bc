"""`deploy score`: a table of any size in, the same table with predictions out."""
