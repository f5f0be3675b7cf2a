"""Random applications and random clients, and nothing lost. `python -m compliance.chaos --help`"""
