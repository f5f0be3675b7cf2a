"""The rows: which application, in which environment, and what is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compliance.frameworks.checks import (
    channels,
    contexts,
    ending,
    fragments,
    http,
    monitored,
    observed,
    websocket,
    wsgi,
)
from compliance.frameworks.site import Site

Check = Callable[[Site], None]
Checks = tuple[Check, ...]


def without(checks: Checks, *dropped: Check) -> Checks:
    """The checks without those that a framework has no means for."""
    return tuple(check for check in checks if check not in dropped)


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
CANCELLED = without(FRAMEWORK, *websocket.CLOSE_CODES)
"""For frameworks that cancel a handler whose client leaves, and tell it no code."""
SANIC = without(CANCELLED, websocket.websocket_refused, websocket.websocket_closed_by_application)
"""In its ASGI mode Sanic accepts every WebSocket, and closes without a code."""
DJANGO_WSGI: Checks = (*without(http.BASIC, http.chunked_upload), *wsgi.STREAMS)
"""Django under WSGI reads no more than Content-Length says."""
CHANNELS_HTTP: Checks = (*without(http.BASIC, http.broken_off_upload), *http.STREAMS, *http.FORM, *http.DATABASE)
CHANNELS_WEBSOCKET: Checks = (
    websocket.websocket_text,
    websocket.websocket_binary,
    websocket.websocket_many_messages,
    websocket.websocket_message_before_blocking_code,
    websocket.websocket_refused,
    *websocket.SUBPROTOCOL,
)
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
        (*http.BASIC, *wsgi.STREAMS, *http.FORM, *contexts.CONTEXTS, *wsgi.WSGI),
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
        (*DJANGO_WSGI, *http.FILES, *http.FORM, *http.DATABASE, wsgi.requests_side_by_side),
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
    Row("Litestar", "frameworks", "litestar_app:app", ("litestar",), EVERYTHING, ERRORS, ENDINGS),
    Row("Sanic", "frameworks", "sanic_app:app", ("sanic",), SANIC, ERRORS, ENDINGS),
    Row(
        "BlackSheep",
        "frameworks",
        "blacksheep_app:app",
        ("blacksheep",),
        without(FRAMEWORK, *http.BACKGROUND),
        ERRORS,
        ENDINGS,
    ),
    Row(
        "Django with Channels",
        *("frameworks", "channels_app:app", ("django", "channels", "channels-redis")),
        (*CHANNELS_HTTP, *channels.CHANNELS, *CHANNELS_WEBSOCKET),
        options=("--workers", "2"),
        endings=(ending.ends_when_idle, ending.ends_with_open_websocket),
        redis=True,
    ),
    Row(
        "pycrdt",
        *("frameworks", "crdt_app:app", ("pycrdt-websocket", "pycrdt"), (http.hello,)),
        endings=(ending.ends_when_idle,),
        clients=("yjs.mjs",),
    ),
    Row(
        "OCPP",
        *("frameworks", "ocpp_app:app", ("ocpp", "websockets"), (http.hello,)),
        endings=(ending.ends_when_idle,),
        clients=("ocpp_client.py",),
    ),
    Row(
        "FastMCP over streamable HTTP",
        *("mcp", "fastmcp_app:streamable", ("fastmcp", "mcp"), (http.hello,)),
        endings=(ending.ends_when_idle,),
        clients=("mcp_client.py",),
    ),
    Row(
        "FastMCP over SSE",
        *("mcp", "fastmcp_app:sse", ("fastmcp", "mcp"), (http.hello,)),
        endings=(ending.ends_when_idle, ending.ends_with_mcp_session),
        clients=("mcp_client.py",),
        options=PATIENT,
    ),
    Row(
        "NiceGUI",
        *("browser", "nicegui_app:app", ("nicegui",), (http.hello,)),
        endings=(ending.ends_when_idle,),
        clients=("nicegui.mjs",),
        browser=True,
    ),
    Row(
        "Gradio",
        *("browser", "gradio_app:app", ("gradio",), (http.hello,)),
        endings=(ending.ends_when_idle,),
        clients=("gradio.mjs",),
        browser=True,
    ),
    Row(
        "OpenTelemetry",
        *("frameworks", "opentelemetry_app:app"),
        ("opentelemetry-sdk", "opentelemetry-instrumentation-fastapi"),
        (http.hello, *monitored.SPANS, observed.identifiers_of_pipelined_requests),
    ),
    Row(
        "Sentry",
        *("frameworks", "sentry_app:app", ("sentry-sdk",)),
        (http.hello, *monitored.SENTRY),
        monitored.SENTRY_ERRORS,
    ),
    Row(
        "debugpy",
        *("frameworks", "starlette_app:app", ("debugpy",)),
        (*http.HTTP, *websocket.WEBSOCKET),
        endings=ENDINGS,
        under="debugpy",
    ),
    Row(
        "python-socketio",
        *("frameworks", "socketio_app:app", ("python-socketio", "python-engineio"), (http.hello,)),
        endings=(ending.ends_when_idle,),
        clients=("socketio.mjs",),
    ),
    Row(
        "Strawberry",
        *("frameworks", "strawberry_app:app", ("strawberry-graphql",), (http.hello,)),
        endings=(ending.ends_when_idle,),
        clients=("graphql.mjs",),
    ),
    Row(
        "Ariadne",
        *("frameworks", "ariadne_app:app", ("ariadne",), (http.hello,)),
        endings=(ending.ends_when_idle,),
        clients=("graphql.mjs",),
    ),
    Row(
        "FastHTML",
        *("frameworks", "fasthtml_app:app", ("python-fasthtml",)),
        (*http.BASIC, *http.EVENTS, *http.LIFESPAN, *http.FORM, *fragments.FASTHTML),
        http.ERROR,
        (ending.ends_when_idle, ending.ends_with_open_stream),
    ),
)
