"""The log, and the end: checks that come last, in this order."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time

from websockets.exceptions import ConnectionClosed

from compliance.frameworks.site import Failed, Raw, Site, alarm, expect

GRACE = 1
"""Seconds that both servers are told to give open requests (--timeout-graceful-shutdown)."""
SPARE = 3


def quiet_log(site: Site) -> None:
    """Nothing at ERROR that the application has not raised."""
    time.sleep(0.05)  # a client has its answer before the server has done with it
    if found := alarm(site.log()):
        raise Failed(found)


def sigterm(site: Site) -> float:
    """Seconds until the server has ended."""
    began = time.monotonic()
    site.server.process.send_signal(signal.SIGTERM)
    try:
        site.server.process.wait(GRACE + 20)
    except subprocess.TimeoutExpired:
        raise Failed(f"still running {GRACE + 20} s after SIGTERM") from None
    return time.monotonic() - began


def end_in_time(site: Site, seconds: float) -> None:
    site.log()
    took = sigterm(site)
    if took > seconds:
        raise Failed(f"ended {took:.1f} s after SIGTERM; {seconds} s would do")


def ends_when_idle(site: Site) -> None:
    """With a connection that is kept alive, and nothing in progress."""
    with site.kept_alive() as request:
        request("GET", "/")
        end_in_time(site, SPARE)
    quiet_log(site)


def ends_with_open_stream(site: Site) -> None:
    client = Raw(site.port)
    client.send("GET /events HTTP/1.1")
    client.wait_for(b"hello")
    end_in_time(site, GRACE + SPARE)


def ends_with_stream_that_notices(site: Site) -> None:
    """sse-starlette ends its streams at the signal, so that the time for open requests (30 s here) is not needed."""
    client = Raw(site.port)
    client.send("GET /events HTTP/1.1")
    client.wait_for(b"hello")
    end_in_time(site, SPARE)


def ends_with_mcp_session(site: Site) -> None:
    """The stream of an MCP client over SSE notices the signal as well."""
    client = Raw(site.port)
    client.send("GET /mcp HTTP/1.1\r\nAccept: text/event-stream")
    client.wait_for(b"endpoint")
    end_in_time(site, SPARE)


def ends_with_open_websocket(site: Site) -> None:
    """The client is told 1012 (or 1001), and the server does not wait for its time to be over."""
    with contextlib.closing(site.websocket("/ws")) as websocket:
        websocket.send("hello")
        websocket.recv(5)
        end_in_time(site, SPARE)
        with contextlib.suppress(ConnectionClosed):
            websocket.recv(5)
        if websocket.close_code not in (1012, 1001):
            raise Failed(f"the client saw close code {websocket.close_code}")
    quiet_log(site)


def runs_shutdown(site: Site) -> None:
    """The lifespan's shutdown has run when the server ends."""
    site.get("/")  # where gunicorn listens before its workers have started
    end_in_time(site, SPARE)
    log = site.log()
    expect("the application has shut down" in log, True, "the lifespan's shutdown ran")
    if found := alarm(log):
        raise Failed(found)
