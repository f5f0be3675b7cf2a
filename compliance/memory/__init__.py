"""Memory stays bounded, whoever is slow. `python -m compliance.memory --help`"""
