"""Requests and responses; the routes are those of apps/starlette_app.py."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

from compliance.frameworks.site import Failed, Raw, Site, expect, until

MEGABYTE = b"0123456789abcdef" * 65536
LEFT = 20
"""Clients that leave their streams."""
BOUNDARY = "frontier"


def hello(site: Site) -> None:
    answer = site.get("/")
    expect((answer.status, answer.text), (200, "hello"))


def keep_alive_clients(site: Site) -> None:
    """40 connections at a time, five requests on each."""

    def client(_: int) -> list[int]:
        with site.kept_alive() as request:
            return [request("GET", "/").status for _ in range(5)]

    with ThreadPoolExecutor(40) as pool:
        statuses = [status for one in pool.map(client, range(40)) for status in one]
    expect(statuses.count(200), len(statuses), "requests answered 200")


def half_closed_client(site: Site) -> None:
    """As `nc -N` and health checks do: the request, then FIN, then the response."""
    for _ in range(10):
        with site.raw() as client:
            client.send("GET / HTTP/1.1")
            client.socket.shutdown(1)
            if not client.read_all().endswith(b"hello"):
                raise Failed("no response after the client's FIN")


def head_request(site: Site) -> None:
    answer = site.request("HEAD", "/")
    expect((answer.status, answer.body), (200, b""))


def upload(site: Site) -> None:
    body = MEGABYTE * 3
    answer = site.request("POST", "/upload", body)
    expect(answer.json, {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})


def chunked_upload(site: Site) -> None:
    answer = site.request("POST", "/upload", iter([MEGABYTE, b"and", MEGABYTE]))
    expect(answer.json["bytes"], 2 * len(MEGABYTE) + 3)


def multipart_form(site: Site) -> None:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = f'{head}"name"\r\n\r\ncat\r\n{head}"file"; filename="cat.png"\r\nContent-Type: image/png\r\n\r\n'
    body = parts.encode() + MEGABYTE + f"\r\n--{BOUNDARY}--\r\n".encode()
    answer = site.request("POST", "/form", body, Content_Type=f"multipart/form-data; boundary={BOUNDARY}")
    expect((answer.json["name"], answer.json["bytes"]), ("cat", len(MEGABYTE)))


def file_download(site: Site) -> None:
    expect(hashlib.sha256(site.get("/file").body).hexdigest(), hashlib.sha256(MEGABYTE).hexdigest())


def broken_off_download(site: Site) -> None:
    """The client leaves in the middle of a file: nobody's fault, and no error."""
    for _ in range(5):
        with site.raw() as client:
            client.send("GET /file HTTP/1.1")
            client.read(1)
    expect(site.get("/").status, 200)


def broken_off_upload(site: Site) -> None:
    before = site.get("/counts").json["uploads"]
    with site.raw() as client:
        client.send("POST /upload HTTP/1.1\r\nContent-Length: 1000000", body=b"only this")
    time.sleep(0.1)
    expect(site.get("/").status, 200)
    expect(site.get("/counts").json["uploads"], before, "uploads that the application took for whole")


def streamed_response(site: Site) -> None:
    expect(site.get("/pieces").text, "".join(f"piece {number}\n" for number in range(5)))


def piece_before_blocking_code(site: Site) -> None:
    """What was awaited is with the client before the code that blocks ends (0.6 s)."""
    with site.raw() as client:
        client.send("GET /blocking HTTP/1.1")
        client.wait_for(b"before", 0.4)
        client.wait_for(b"after")


def head_before_first_piece(site: Site) -> None:
    """The first piece comes after 1.5 s; the head does not wait for it."""
    with site.raw() as client:
        client.send("GET /late HTTP/1.1")
        client.wait_for(b"\r\n\r\n", 0.7)


def clients_leave_streams(site: Site, path: str = "/events") -> None:
    """Streams that have nothing to send are ended when their clients leave."""
    clients = [Raw(site.port) for _ in range(LEFT)]
    for client in clients:
        client.send(f"GET {path} HTTP/1.1")
        client.wait_for(b"hello")
    expect(site.get("/counts").json["open"], LEFT, "streams open")
    for client in clients:
        client.close()
    open_streams = LEFT

    def ended() -> bool:
        nonlocal open_streams
        open_streams = site.get("/counts").json["open"]
        return bool(open_streams == 0)

    try:
        until(ended, "ended", 3)
    except Failed:
        raise Failed(f"{open_streams} of {LEFT} streams still run 3 s after their clients left") from None


def clients_leave_fastapi_events(site: Site) -> None:
    clients_leave_streams(site, "/fastapi-events")


def database(site: Site) -> None:
    """Synchronous views on the database, several at a time."""
    expect(site.get("/users").json, ["alice"])
    with ThreadPoolExecutor(4) as pool:
        expect([answer.json for answer in pool.map(site.get, ["/users"] * 8)], [["alice"]] * 8)


def background_task(site: Site) -> None:
    before = site.get("/counts").json["background"]
    began = time.monotonic()
    answer = site.request("POST", "/background")
    expect(answer.status // 100, 2, "status class")
    until(lambda: bool(site.get("/counts").json["background"] == before + 1), "the background task", 3)
    if time.monotonic() - began > 3:
        raise Failed("the response waited for the background task")


def lifespan_startup(site: Site) -> None:
    expect(site.get("/counts").json["started"], 1, "startups")


def error_is_500(site: Site) -> None:
    """What the application raises is answered 500 and told once, with its traceback."""
    site.log()
    expect(site.get("/error").status, 500)
    log = ""

    def told() -> bool:
        nonlocal log
        log += site.log()
        return "RuntimeError: raised on purpose" in log

    until(told, "a traceback in the log", 2)
    expect(site.get("/").status, 200)


BASIC = (hello, keep_alive_clients, half_closed_client, head_request, upload, chunked_upload, broken_off_upload)
FILES = (file_download, broken_off_download)
DATABASE = (database,)
FORM = (multipart_form,)
STREAMS = (streamed_response, piece_before_blocking_code, head_before_first_piece)
EVENTS = (clients_leave_streams,)
BACKGROUND = (background_task,)
LIFESPAN = (lifespan_startup,)
ERROR = (error_is_500,)
SSE = (hello, *EVENTS, clients_leave_fastapi_events)
HTTP = (*BASIC, *STREAMS, *EVENTS)
