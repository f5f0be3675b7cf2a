"""Presence: who is there, and how many, across workers and machines."""
