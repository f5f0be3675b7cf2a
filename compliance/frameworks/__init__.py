"""Real frameworks with real clients, on flowserve and on uvicorn: `python -m compliance.frameworks --help`"""
