"""The Autobahn testsuite against flowserve. `python -m compliance.autobahn --help`"""
