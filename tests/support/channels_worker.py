"""`manage.py` of support.channels_app: `python -m support.channels_worker runworker tasks`."""

from __future__ import annotations

import sys

from django.core.management import execute_from_command_line

from support import channels_app

assert channels_app.application
execute_from_command_line(["manage.py", *sys.argv[1:]])
