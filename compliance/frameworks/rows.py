"""The rows: which application, in which environment, and what is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compliance.frameworks.checks import contexts, ending, http, observed, websocket, wsgi
from compliance.frameworks.site import Site

Check = Callable[[Site], None]
Checks = tuple[Check, ...]

ENDINGS: Checks = (
    ending.ends_when_idle,
    ending.ends_with_open_stream,
    ending.ends_with_open_websocket,
    ending.runs_shutdown,
)
HTTP: Checks = (*http.HTTP, *http.LIFESPAN, *contexts.CONTEXTS)
FRAMEWORK: Checks = (
    *(*HTTP, *http.FORM, *http.BACKGROUND),
    *(*websocket.WEBSOCKET, *websocket.CLOSE_CODES, *websocket.SUBPROTOCOL, *contexts.CONTEXT_WEBSOCKET),
)
CANCELLED = tuple(check for check in FRAMEWORK if check not in websocket.CLOSE_CODES)
"""For frameworks that cancel a handler whose client leaves, and tell it no code."""
EVERYTHING: Checks = (*FRAMEWORK, *http.FILES, *contexts.CONTEXT_FILES)
ERRORS: Checks = (*http.ERROR, *websocket.ERROR)


@dataclass(frozen=True)
class Row:
    """One application. `packages` are those that it shows; `errors` are the checks that put an error into the log.

    `endings` are checks that end the server; each gets one of its own. `under` is the program that runs the server.
    """

    name: str
    environment: str
    app: str
    packages: tuple[str, ...]
    checks: Checks
    errors: Checks = ()
    endings: Checks = ()
    clients: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    under: str = ""
    redis: bool = False
    browser: bool = False


PATIENT = ("--timeout-graceful-shutdown", "30")
WSGI = ("--interface", "wsgi")

ROWS = (
    Row("Starlette", "light", "starlette_app:app", ("starlette",), (*EVERYTHING, *websocket.DENIAL), ERRORS, ENDINGS),
    Row(
        "Starlette with BaseHTTPMiddleware",
        *("light", "starlette_middleware:app", ("starlette",)),
        (*http.BASIC, *http.EVENTS, *contexts.CONTEXTS, *http.FILES, *http.FORM, *contexts.CONTEXT_FILES),
        http.ERROR,
        (ending.ends_when_idle, ending.ends_with_open_stream),
    ),
    Row(
        "FastAPI",
        *("light", "fastapi_app:app", ("fastapi",)),
        (*EVERYTHING, *websocket.PARAMETER),
        ERRORS,
        ENDINGS,
    ),
    Row(
        "Server-sent events",
        *("light", "sse_app:app", ("sse-starlette", "fastapi"), http.SSE),
        endings=(ending.ends_with_stream_that_notices,),
        options=PATIENT,
    ),
    Row("Falcon", "light", "falcon_app:app", ("falcon",), FRAMEWORK, ERRORS, ENDINGS),
    Row("Quart", "light", "quart_app:app", ("quart",), CANCELLED, ERRORS, ENDINGS),
    Row(
        "Flask under WSGI",
        *("light", "flask_app:application", ("flask",)),
        (*http.BASIC, *http.STREAMS, *http.FORM, *contexts.CONTEXTS, *wsgi.WSGI),
        http.ERROR,
        (ending.ends_when_idle, ending.ends_with_open_stream),
        options=WSGI,
    ),
    Row(
        "Django",
        *("light", "django_app:app", ("django",)),
        (*http.HTTP, *http.FILES, *http.FORM, *http.DATABASE, *contexts.CONTEXTS, *contexts.CONTEXT_FILES),
        http.ERROR,
        (ending.ends_when_idle, ending.ends_with_open_stream),
    ),
    Row("Django that uses the database at import", "light", "django_import:app", ("django",), (http.hello,)),
    Row(
        "Django under WSGI",
        *("light", "django_wsgi:application", ("django",)),
        (*http.BASIC, *http.STREAMS, *http.FILES, *http.FORM, *http.DATABASE, wsgi.requests_side_by_side),
        http.ERROR,
        (ending.ends_when_idle,),
        options=WSGI,
    ),
    Row(
        "Correlation ids",
        "light",
        "correlation_app:app",
        ("asgi-correlation-id",),
        observed.IDENTIFIERS,
        observed.LOGGED,
    ),
    Row("structlog", "light", "structlog_app:app", ("structlog",), observed.IDENTIFIERS, observed.LOGGED),
    Row("Prometheus", "light", "prometheus_app:app", ("prometheus-client",), observed.METRICS),
    Row(
        "gunicorn",
        *("light", "starlette_app:app", ("gunicorn", "uvicorn-worker")),
        (*EVERYTHING, *websocket.DENIAL),
        ERRORS,
        ENDINGS,
        under="gunicorn",
    ),
)
