"""Django without Channels: `app` is for ASGI, `application` for WSGI."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import django_settings
import ledger
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

FILE = django_settings.SCRATCH / "megabyte"


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello", content_type="text/plain")


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    ledger.log_in()
    return JsonResponse(ledger.digest(request.body))


@csrf_exempt
def form(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"name": request.POST["name"], **ledger.digest(request.FILES["file"].read())})


async def pieces(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(ledger.pieces(), content_type="text/plain")


async def events(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(ledger.events(), content_type="text/event-stream")


async def blocking(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(ledger.blocking(), content_type="text/plain")


async def late(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(ledger.late(), content_type="text/plain")


def pieces_sync(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(ledger.pieces_sync(), content_type="text/plain")


def blocking_sync(request: HttpRequest) -> HttpResponseBase:
    def found() -> Iterator[bytes]:
        yield b"before\n"
        time.sleep(ledger.BLOCKS)
        yield b"after\n"

    return StreamingHttpResponse(found(), content_type="text/plain")


def late_sync(request: HttpRequest) -> HttpResponseBase:
    def found() -> Iterator[bytes]:
        time.sleep(1.5)
        yield b"late\n"

    return StreamingHttpResponse(found(), content_type="text/plain")


def file(request: HttpRequest) -> HttpResponseBase:
    ledger.log_in()
    FILE.exists() or FILE.write_bytes(ledger.MEGABYTE)
    return FileResponse(FILE.open("rb"))


async def context(request: HttpRequest) -> HttpResponse:
    return HttpResponse(ledger.log_in())


def slow(request: HttpRequest) -> HttpResponse:
    time.sleep(0.5)
    return HttpResponse("slow")


def users(request: HttpRequest) -> HttpResponse:
    """A synchronous view on the database, which Django runs in a thread."""
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    User.objects.get_or_create(username="alice")
    return JsonResponse(list(User.objects.values_list("username", flat=True)), safe=False)


def error(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("raised on purpose")


def counts(request: HttpRequest) -> HttpResponse:
    return JsonResponse(ledger.counts)


both = [
    path("", hello),
    path("upload", upload),
    path("form", form),
    path("file", file),
    path("slow", slow),
    path("users", users),
    path("error", error),
    path("counts", counts),
]
of_asgi = [
    path("context", context),
    path("pieces", pieces),
    path("events", events),
    path("blocking", blocking),
    path("late", late),
]
of_wsgi = [path("pieces", pieces_sync), path("blocking", blocking_sync), path("late", late_sync)]
urlpatterns = [*both, *(of_wsgi if os.environ.get("INTERFACE") == "wsgi" else of_asgi)]

app = get_asgi_application()
application = get_wsgi_application()
