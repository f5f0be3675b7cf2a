"""From "module:attribute" or a callable to an ASGI 3 application."""

from __future__ import annotations

import difflib
import dis
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

from asgiref.sync import iscoroutinefunction
from asgiref.typing import ASGI3Application

from flowserve.config import Config
from flowserve.errors import ConfigError


def load(config: Config) -> ASGI3Application:
    """The application that `config` names, imported, made (--factory) and adapted to ASGI 3 (--interface).

    Raises ConfigError with one line that says what to do. What the application's own code raises while it is
    imported or made propagates as it is.
    """
    app: Any = config.app
    name = app if isinstance(app, str) else "app"
    if isinstance(app, str):
        app = _import(app, config.app_dir)
    if config.factory:
        app = _made(app, name)
    if not callable(app):
        raise ConfigError(f"{name} is {_described(app)}, not an ASGI application{_inside(app, name)}")
    interface = _detect(app, name) if config.interface == "auto" else config.interface
    if interface == "asgi2":
        app = _from_asgi2(app)
    elif interface == "wsgi":
        from flowserve.wsgi.application import WSGIAdapter

        # A program that serves an object may be one of many, such as gunicorn's workers.
        app = WSGIAdapter(app, config.wsgi_threads, config.workers > 1 or not isinstance(config.app, str))
    return cast(ASGI3Application, app)


def _from_asgi2(app: Callable[..., Any]) -> Any:
    """An ASGI 3 application that calls `app` as ASGI 2 wants it: with the scope, then what it returns with the rest."""

    async def call(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await app({**scope, "asgi": {**scope["asgi"], "version": "2.0"}})(receive, send)

    return call


def _import(name: str, app_dir: str) -> Any:
    module_name, colon, attribute = name.partition(":")
    file = module_name.replace(os.sep, "/")
    if not colon or not attribute or not file or file.startswith(".") or "/" in file or file.endswith(".py"):
        meant = file.removesuffix(".py").strip("./").replace("/", ".")
        example = f"{meant if meant.strip() and meant.isprintable() else 'main'}:{attribute or 'app'}"
        raise ConfigError(f"{name!r} doesn't name an application; write module:attribute, e.g. {example}")
    if attribute.endswith(")"):
        example = f"{module_name}:{attribute.partition('(')[0]}"
        raise ConfigError(f"{name!r} is a call; for a function that makes the application write --factory {example}")
    found: Any = _module(module_name, app_dir)
    path = module_name
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigError(f"{name!r}: {_missing(found, path, part)}") from None
        path += f".{part}"
    return found


def _module(name: str, app_dir: str) -> ModuleType:
    folder = os.path.abspath(app_dir)
    if not os.path.isdir(folder):
        raise ConfigError(f"--app-dir: {app_dir!r} is not a folder")
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only when it is APP itself (or a package it lies in) that is missing, not something that APP's code imports.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"module {error.name!r} not found in {folder} nor among the installed packages; "
            "start in the folder that holds it, or name that folder with --app-dir"
        ) from None


def _missing(owner: Any, path: str, attribute: str) -> str:
    kind = "module" if isinstance(owner, ModuleType) else type(owner).__name__
    names = [name for name in dir(owner) if not name.startswith("_")]
    close = difflib.get_close_matches(attribute, names, n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{kind} {path} has no attribute {attribute!r}{hint}"


def _described(app: Any) -> str:
    """What `app`, which can't be called, is: 'a module', 'a str', 'None'."""
    if isinstance(app, ModuleType):
        return "a module"
    return "None" if app is None else f"{'an' if type(app).__name__[0] in 'AEIOUaeiou' else 'a'} {type(app).__name__}"


def _inside(app: Any, name: str) -> str:
    """A hint at callables of usual names inside what was named instead of them."""
    close = [name for name in ("app", "application", "asgi") if callable(getattr(app, name, None))]
    if isinstance(app, ModuleType) and close:
        return f"; did you mean {app.__name__}:{close[0]}?"
    return ""


def _made(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise ConfigError(f"--factory: {name} is {_described(factory)}, not a function that makes the application")
    if iscoroutinefunction(factory):
        raise ConfigError(f"--factory: {name} is an async function; a factory is a plain one, without arguments")
    signature = _signature(factory)
    if signature is not None and not _takes(signature, 0):
        raise ConfigError(f"--factory: {name} takes arguments; a factory is a function without any")
    return factory()


def _detect(app: Callable[..., Any], name: str) -> str:
    """'asgi3' or 'asgi2' by what `app` can be called with; asgi3 when in doubt, ConfigError when it can be neither."""
    if inspect.isclass(app):
        return _detect_class(app, name)
    signature = _signature(app)
    if signature is None:
        return "asgi3"
    if _needs_nothing(signature):
        raise ConfigError(f"{name} needs no arguments; if it makes the application, add --factory")
    if _takes(signature, 3):
        if _never_awaitable(app):
            raise ConfigError(
                f"{name} is no asynchronous function; an ASGI application is: async def {_name_of(app)}{signature}"
            )
        return "asgi3"
    if not _is_async(app):
        if _takes(signature, 1):
            return "asgi2"
        if _takes(signature, 2):
            raise ConfigError(f"{name} looks like a WSGI application; use --interface wsgi")
    raise ConfigError(f"{name} takes {signature}; an ASGI application takes (scope, receive, send)")


def _detect_class(app: type, name: str) -> str:
    """ASGI 2 applications are classes made with a scope, whose instances are called with (receive, send)."""
    if hasattr(app, "__await__"):
        return "asgi3"  # made with (scope, receive, send) and awaited, as Starlette's endpoints are
    made = _signature(app)
    call = inspect.getattr_static(app, "__call__", None)
    called = _signature(call) if inspect.isfunction(call) else None
    if called and _takes(called, 4) and not _takes(called, 3):  # with self
        hint = "if it is made without arguments add --factory" if made and _takes(made, 0) else "name an instance of it"
        raise ConfigError(f"{name} is a class, its instances are the applications; {hint}")
    if made is not None and _takes(made, 2) and not _takes(made, 1):
        raise ConfigError(f"{name} looks like a WSGI application; use --interface wsgi")
    if made is not None and not _takes(made, 1):
        raise ConfigError(f"{name} is a class that can't be made with a scope, so it is no ASGI application")
    return "asgi2"


def _is_async(app: Any) -> bool:
    while isinstance(app, functools.partial):
        app = app.func
    return iscoroutinefunction(app) or iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


def _never_awaitable(app: Any) -> bool:
    """Whether `app` is a function whose calls give nothing to await, by its code: a generator, or one without a value
    to return."""
    if inspect.isgeneratorfunction(app) or inspect.isasyncgenfunction(app):
        return True
    if not inspect.isfunction(app) or _is_async(app):
        return False
    steps = [step for step in dis.get_instructions(app) if step.opname != "EXTENDED_ARG"]
    ends = [index for index, step in enumerate(steps) if step.opname.startswith("RETURN_")]
    return bool(ends) and all(None is _returned(steps, index) for index in ends)


def _returned(steps: list[dis.Instruction], index: int) -> Any:
    """The constant that the instruction at `index` returns; anything else if it may not be one."""
    step = steps[index] if steps[index].opname == "RETURN_CONST" else steps[index - 1]
    return step.argval if step.opname in ("RETURN_CONST", "LOAD_CONST") else step


def _name_of(app: Any) -> str:
    return str(getattr(app, "__name__", "app"))


def _signature(app: Any) -> inspect.Signature | None:
    """The signature of `app` itself, not of what a decorator wrapped; None where Python can't tell."""
    try:
        return inspect.signature(app, follow_wrapped=False)
    except (ValueError, TypeError):
        return None


def _takes(signature: inspect.Signature, count: int) -> bool:
    """Whether a call with `count` positional arguments fits."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _needs_nothing(signature: inspect.Signature) -> bool:
    """Whether a call without arguments fits and no `*args` says that more may come."""
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    return _takes(signature, 0) and inspect.Parameter.VAR_POSITIONAL not in kinds
