"""Real frameworks with real clients, on flowserve and on uvicorn: `python -m compliance.frameworks --help`"""

import importlib.util
import sys

if importlib.util.find_spec("websockets") is None:
    sys.exit("websockets is not there, of which the checks are made; install it: pip install -e '.[test]'")
