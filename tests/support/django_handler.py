"""Django applications, any number in one process, whose settings are made but once."""

from __future__ import annotations

from typing import Any


def django_handler(kind: type[Any], urlpatterns: list[Any]) -> Any:
    """Return an application of a class of django.core.handlers, with its own routes."""
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="not secret",
            ROOT_URLCONF="none",
            MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
            LOGGING_CONFIG=None,
            USE_TZ=True,
        )
        django.setup(set_prefix=False)

    class Handler(kind):  # type: ignore[misc]  # a class that is only known here
        request_class = type(
            "Request", (kind.request_class,), {"urlconf": type("urls", (), {"urlpatterns": urlpatterns})}
        )

    return Handler()
