"""Counts every message of topics while processes, connections and backplanes fail."""
