"""Other people's clients talk to flowserve, compressed: `python -m compliance.interop --help`"""
