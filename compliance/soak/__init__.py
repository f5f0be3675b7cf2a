"""An hour of mixed traffic, and nothing grows. `python -m compliance.soak --help`"""
