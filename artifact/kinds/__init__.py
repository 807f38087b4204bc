"""The kinds of a column, a module each: how its cells become numbers, and what is refused."""
