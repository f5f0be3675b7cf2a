"""A channel layer of Django Channels on topics; `layer.py` is the way in."""
