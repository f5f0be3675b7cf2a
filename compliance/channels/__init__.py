"""Counts what layers of Django Channels lose, beside each other."""
