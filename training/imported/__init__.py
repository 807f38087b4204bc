"""A model that was made elsewhere: loaded, described, measured, and sealed like one of our own."""
