"""Django whose module asks the database while it is imported, as AppConfig.ready() and settings often do."""

import asyncio

from asgiref.sync import async_to_sync
from django.db import connection
from django_app import app

with connection.cursor() as cursor:
    cursor.execute("select 1")

async_to_sync(asyncio.sleep)(0)
asyncio.run(asyncio.sleep(0))

__all__ = ["app"]
