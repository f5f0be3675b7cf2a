"""The benchmark: what a message costs each server's processor. `python -m compliance.performance --help`"""
