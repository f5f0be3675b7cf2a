"""Django under WSGI, with the views that stream synchronously."""

import os

os.environ["INTERFACE"] = "wsgi"

from django_app import application

__all__ = ["application"]
