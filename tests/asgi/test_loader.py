"""From "module:attribute" to an ASGI 3 application: what loads, and what is said of that which doesn't."""

from __future__ import annotations

import functools
import itertools
import sys
import types
from unittest import mock

import fastapi
import pytest
import starlette.applications
import starlette.endpoints

from flowserve.asgi.loader import load
from flowserve.config import Config
from flowserve.errors import ConfigError

NUMBERS = itertools.count()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module under a name of its own, importable from tmp_path; returns that name."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)

    def write_module(source, file="{}.py"):
        name = f"loaded{next(NUMBERS)}"
        target = tmp_path / file.format(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source)
        return name

    yield write_module
    for name in set(sys.modules) - known:
        if name.startswith("loaded"):
            del sys.modules[name]


async def asgi3(scope, receive, send):
    await send({"type": "done", "scope": scope})


async def call(app, scope):
    """Call an ASGI 3 application; returns the messages that it sent."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


def refusal(app, **options):
    with pytest.raises(ConfigError) as caught:
        load(Config(app, **options))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return message


# Import strings


def test_module_and_attribute(write, tmp_path):
    name = write("async def app(scope, receive, send): ...")
    app = load(Config(f"{name}:app", app_dir=tmp_path))
    assert app is sys.modules[name].app
    assert sys.path[0] == str(tmp_path)


def test_the_current_folder_is_looked_in(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = write("async def app(scope, receive, send): ...")
    assert load(Config(f"{name}:app")) is sys.modules[name].app


def test_dotted_module_and_dotted_attribute(write, tmp_path):
    package = write("", "{}/__init__.py")
    source = "class Site:\n async def app(scope, receive, send): ...\n"
    (tmp_path / package / "web.py").write_text(source)
    app = load(Config(f"{package}.web:Site.app", app_dir=tmp_path))
    assert app is sys.modules[f"{package}.web"].Site.app


def test_module_not_found(tmp_path):
    message = refusal("no_such_module_here:app", app_dir=tmp_path)
    assert message.startswith(f"module 'no_such_module_here' not found in {tmp_path} ")
    assert "--app-dir" in message


def test_module_not_found_in_a_package(write, tmp_path):
    package = write("", "{}/__init__.py")
    assert refusal(f"{package}.web:app", app_dir=tmp_path).startswith(f"module '{package}.web' not found")


def test_module_below_something_that_is_no_package(write, tmp_path):
    name = write("")
    assert refusal(f"{name}.web:app", app_dir=tmp_path).startswith(f"module '{name}.web' not found")


@pytest.mark.parametrize("source", ["import no_such_module_here", "from . import other", "from os import no_such_name"])
def test_an_import_error_inside_the_application_stays_what_it_is(write, tmp_path, source):
    name = write(source)
    with pytest.raises(ImportError):
        load(Config(f"{name}:app", app_dir=tmp_path))


@pytest.mark.parametrize(("source", "error"), [("1 / 0", ZeroDivisionError), ("def", SyntaxError)])
def test_what_the_application_raises_on_import_stays_what_it_is(write, tmp_path, source, error):
    name = write(source)
    with pytest.raises(error):
        load(Config(f"{name}:app", app_dir=tmp_path))


def test_missing_attribute_names_close_ones(write, tmp_path):
    name = write("application = api = 1\n_applicatio = 2")
    message = refusal(f"{name}:aplication", app_dir=tmp_path)
    assert message == f"'{name}:aplication': module {name} has no attribute 'aplication'; did you mean application?"
    assert "did you mean" not in refusal(f"{name}:zzz", app_dir=tmp_path)


def test_missing_attribute_of_an_attribute(write, tmp_path):
    name = write("class Site:\n router = 1\nsite = Site()\n")
    message = refusal(f"{name}:site.ruter", app_dir=tmp_path)
    assert message == f"'{name}:site.ruter': Site {name}.site has no attribute 'ruter'; did you mean router?"


@pytest.mark.parametrize(
    ("app", "example"),
    [
        ("main", "main:app"),
        ("main:", "main:app"),
        (":app", "main:app"),
        ("", "main:app"),
        ("main.py:application", "main:application"),
        ("main.py", "main:app"),
        ("./src/web/main.py:app", "src.web.main:app"),
        (".main:app", "main:app"),
    ],
)
def test_wrong_forms(app, example):
    message = refusal(app)
    assert message == f"{app!r} doesn't name an application; write module:attribute, e.g. {example}"


def test_a_call_instead_of_factory():
    message = refusal("main:create_app()")
    assert message.endswith("write --factory main:create_app")


def test_app_dir_that_is_no_folder(tmp_path):
    assert refusal("main:app", app_dir=tmp_path / "nowhere").endswith("nowhere' is not a folder")


# Factories


def test_factory(write, tmp_path):
    name = write("async def app(scope, receive, send): ...\ndef create(debug=False): return app")
    assert load(Config(f"{name}:create", app_dir=tmp_path, factory=True)) is sys.modules[name].app


def test_a_class_can_be_a_factory():
    class Site:
        async def __call__(self, scope, receive, send): ...

    assert isinstance(load(Config(Site, factory=True)), Site)


def test_what_a_factory_raises_stays_what_it_is():
    def create():
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        load(Config(create, factory=True))


def test_wrong_factories():
    async def asynchronous(): ...

    assert refusal(asynchronous, factory=True).startswith("--factory: app is an async function")
    assert refusal(lambda a, b: None, factory=True).startswith("--factory: app takes arguments")
    assert refusal(7, factory=True).startswith("--factory: app is an int, not a function")
    assert refusal(lambda: None, factory=True) == "app is None, not an ASGI application"


@pytest.mark.parametrize(
    "factory", [lambda: asgi3, lambda settings=None: asgi3, lambda **options: asgi3, lambda a=1, b=2, c=3: asgi3]
)
def test_a_factory_without_factory_is_noticed(factory):
    assert refusal(factory) == "app needs no arguments; if it makes the application, add --factory"


def test_an_async_function_without_arguments_is_noticed():
    async def app(): ...

    assert "add --factory" in refusal(app)


# Interfaces


class Instance:
    async def __call__(self, scope, receive, send): ...

    async def method(self, scope, receive, send): ...

    def synchronous(self, scope, receive, send):
        return asgi3(scope, receive, send)


def decorated(function):
    @functools.wraps(function)
    async def wrapper(*args):
        return await function(*args)

    return wrapper


@decorated
async def a_view_made_an_application(request): ...


class Opaque:
    """Python can't tell its signature, as with many callables written in C."""

    __signature__ = "none"

    def __call__(self, *args): ...


class Awaited:
    def __init__(self, scope, receive, send): ...

    def __await__(self):
        yield


@pytest.mark.parametrize(
    "app",
    [
        asgi3,
        Instance(),
        Instance().method,
        Instance().synchronous,
        lambda scope, receive, send: asgi3(scope, receive, send),
        lambda *args: asgi3(*args),
        functools.partial(asgi3),
        functools.partial(lambda settings, scope, receive, send: asgi3(scope, receive, send), {}),
        decorated(asgi3),
        a_view_made_an_application,
        mock.Mock(),
        Opaque(),
        Awaited,
        starlette.applications.Starlette(),
        starlette.endpoints.HTTPEndpoint,
        fastapi.FastAPI(),
    ],
)
def test_asgi3_is_taken_as_it_is(app):
    assert load(Config(app)) is app
    assert load(Config(app, interface="asgi3")) is app


class Asgi2:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        await send({"type": "done", "scope": self.scope})


def asgi2_function(scope):
    return Asgi2(scope)


class Asgi2Instance:
    def __call__(self, scope):
        return Asgi2(scope)


@pytest.mark.parametrize("interface", ["auto", "asgi2"])
@pytest.mark.parametrize("app", [Asgi2, asgi2_function, Asgi2Instance(), functools.partial(asgi2_function)])
async def test_asgi2_is_adapted(app, interface):
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.5"}}
    told = {"type": "http", "asgi": {"version": "2.0", "spec_version": "2.5"}}
    assert await call(load(Config(app, interface=interface)), scope) == [{"type": "done", "scope": told}]
    assert scope["asgi"]["version"] == "3.0"


def wsgi(environ, start_response):
    start_response("200 OK", [("x-path", environ["PATH_INFO"])])
    return [b"hello"]


class Wsgi:
    def __call__(self, environ, start_response):
        return wsgi(environ, start_response)


class WsgiClass:
    def __init__(self, environ, start_response): ...


async def test_wsgi_is_adapted():
    scope = {
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"",
        "headers": [],
    }
    sent = await call(load(Config(wsgi, interface="wsgi")), scope)
    assert sent[0]["status"] == 200
    assert (b"x-path", b"/a") in sent[0]["headers"]
    assert b"".join(message.get("body", b"") for message in sent[1:]) == b"hello"


@pytest.mark.parametrize("app", [wsgi, Wsgi(), WsgiClass])
def test_wsgi_is_noticed(app):
    assert refusal(app) == "app looks like a WSGI application; use --interface wsgi"


def test_what_is_no_application(write, tmp_path):
    async def one(scope): ...

    assert refusal({}) == "app is a dict, not an ASGI application"
    assert refusal(one) == "app takes (scope); an ASGI application takes (scope, receive, send)"
    assert "takes (a, b, c, d)" in refusal(lambda a, b, c, d: None)
    assert "takes (scope)" in refusal(functools.partial(one))
    name = write("app = 'text'")
    assert refusal(f"{name}:app", app_dir=tmp_path) == f"{name}:app is a str, not an ASGI application"


def test_a_module_in_the_place_of_its_application():
    module = types.ModuleType("web")
    assert refusal(module) == "app is a module, not an ASGI application"
    module.app = asgi3
    assert refusal(module) == "app is a module, not an ASGI application; did you mean web:app?"


def test_a_class_in_the_place_of_its_instance():
    class Middleware:
        def __init__(self, app): ...

        async def __call__(self, scope, receive, send): ...

    assert refusal(starlette.applications.Starlette).endswith("if it is made without arguments add --factory")
    assert refusal(Middleware).endswith("is a class, its instances are the applications; name an instance of it")


def test_a_class_that_is_no_application():
    class Nothing: ...

    class Three:
        def __init__(self, a, b, c): ...

    assert "can't be made with a scope" in refusal(Nothing)
    assert "can't be made with a scope" in refusal(Three)
