"""Versions beside a champion: a shadow scores its rows again, a canary answers some of its callers."""
