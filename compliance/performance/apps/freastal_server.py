"""freastal, which has no command for ASGI. `python freastal_server.py APP PORT SIZE`."""

from __future__ import annotations

import sys

import applications
import freastal

if __name__ == "__main__":
    freastal.serve_asgi(getattr(applications, sys.argv[1]), "127.0.0.1", int(sys.argv[2]))
