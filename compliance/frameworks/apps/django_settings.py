"""Django, configured and set up when this module is imported."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import django
from django.conf import settings

SCRATCH = Path(os.environ.get("SCRATCH") or tempfile.mkdtemp())
REDIS = {
    "BACKEND": "channels_redis.core.RedisChannelLayer",
    "CONFIG": {"hosts": [f"redis://127.0.0.1:{os.environ.get('REDIS_PORT')}"]},
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}

settings.configure(
    SECRET_KEY="not a secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="django_app",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(SCRATCH / "db.sqlite3")}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    DATA_UPLOAD_MAX_MEMORY_SIZE=64 * 2**20,
    CHANNEL_LAYERS={"default": REDIS},
    LOGGING=LOGGING,
)
django.setup()
