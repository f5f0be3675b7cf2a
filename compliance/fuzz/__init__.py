"""Fuzzing: every parser of bytes or text that a peer, a proxy or a user feeds. See ../README.md."""
