"""`topics.serve()`: clients that subscribe by themselves; PROTOCOL.md is the specification."""
