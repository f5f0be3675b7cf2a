"""The hub: all topics of one event loop, how it is made, and which one the calling code uses."""
