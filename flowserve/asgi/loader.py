"""Loads an application from "module:attribute" or a callable, as ASGI 3."""

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
from flowserve.config.env_file import load_env_file
from flowserve.errors import ConfigError


def load(config: Config) -> ASGI3Application:
    """Return the application that `config` names: imported, created by its factory (--factory) and adapted to ASGI 3
    (--interface). The variables of --env-file are set before.

    Raises ConfigError with one line that says what to do. What the application's own code raises while it is imported
    or created propagates unchanged.
    """
    if config.env_file is not None:
        load_env_file(config.env_file)
    app: Any = config.app
    name = app if isinstance(app, str) else "app"
    if isinstance(app, str):
        app = _import(app, config.app_dir)
    if config.factory:
        app = _call_factory(app, name)
    if not callable(app):
        raise ConfigError(f"{name} is {_describe(app)}, not an ASGI application{_hint(app, name)}")
    interface = _detect(app, name) if config.interface == "auto" else config.interface
    if interface == "asgi2":
        app = _from_asgi2(app)
    elif interface == "wsgi":
        from flowserve.wsgi.application import WSGIAdapter

        # A program that passes an object may be one of many, such as gunicorn's workers.
        app = WSGIAdapter(app, config.wsgi_threads, config.workers > 1 or not isinstance(config.app, str))
    return cast(ASGI3Application, app)


def _from_asgi2(app: Callable[..., Any]) -> Any:
    """Return an ASGI 3 application for the ASGI 2 application `app`, which is called with the scope and returns a
    callable that takes (receive, send)."""

    async def call(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await app({**scope, "asgi": {**scope["asgi"], "version": "2.0"}})(receive, send)

    return call


def _import(name: str, app_dir: str) -> Any:
    module_name, colon, attribute = name.partition(":")
    file = module_name.replace(os.sep, "/")
    if not colon or not attribute or not file or file.startswith(".") or "/" in file or file.endswith(".py"):
        guess = file.removesuffix(".py").strip("./").replace("/", ".")
        example = f"{guess if guess.strip() and guess.isprintable() else 'main'}:{attribute or 'app'}"
        raise ConfigError(f"{name!r} doesn't name an application; write module:attribute, e.g. {example}")
    if attribute.endswith(")"):
        example = f"{module_name}:{attribute.partition('(')[0]}"
        raise ConfigError(f"{name!r} is a call; for a function that makes the application write --factory {example}")
    value: Any = _import_module(module_name, app_dir)
    path = module_name
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise ConfigError(f"{name!r}: {_missing_attribute(value, path, part)}") from None
        path += f".{part}"
    return value


def import_from(app_dir: str) -> str:
    """Have Python look for modules in the folder `app_dir` first; return its path. Raises ConfigError."""
    folder = os.path.abspath(app_dir)
    if not os.path.isdir(folder):
        raise ConfigError(f"--app-dir: {app_dir!r} is not a folder")
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    return folder


def _import_module(name: str, app_dir: str) -> ModuleType:
    folder = import_from(app_dir)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only if APP itself, or a package that contains it, is missing, not something that APP's code imports.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"module {error.name!r} not found in {folder} nor among the installed packages; "
            "start in the folder that holds it, or name that folder with --app-dir"
        ) from None


def _missing_attribute(owner: Any, path: str, attribute: str) -> str:
    kind = "module" if isinstance(owner, ModuleType) else type(owner).__name__
    names = [name for name in dir(owner) if not name.startswith("_")]
    close = difflib.get_close_matches(attribute, names, n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{kind} {path} has no attribute {attribute!r}{hint}"


def _describe(app: Any) -> str:
    """Describe `app`, which can't be called: 'a module', 'a str', 'None'."""
    if isinstance(app, ModuleType):
        return "a module"
    return "None" if app is None else f"{'an' if type(app).__name__[0] in 'AEIOUaeiou' else 'a'} {type(app).__name__}"


def _hint(app: Any, name: str) -> str:
    """Return a hint at a callable of a usual name in the module `app`, or an empty string."""
    close = [name for name in ("app", "application", "asgi") if callable(getattr(app, name, None))]
    if isinstance(app, ModuleType) and close:
        return f"; did you mean {app.__name__}:{close[0]}?"
    return ""


def _call_factory(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise ConfigError(f"--factory: {name} is {_describe(factory)}, not a function that makes the application")
    if iscoroutinefunction(factory):
        raise ConfigError(f"--factory: {name} is an async function; a factory is a plain one, without arguments")
    signature = _signature(factory)
    if signature is not None and not _accepts(signature, 0):
        raise ConfigError(f"--factory: {name} takes arguments; a factory is a function without any")
    return factory()


def _detect(app: Callable[..., Any], name: str) -> str:
    """Return 'asgi3' or 'asgi2' by the arguments that `app` accepts, 'asgi3' when in doubt. Raises ConfigError if it
    can be neither."""
    if inspect.isclass(app):
        return _detect_class(app, name)
    signature = _signature(app)
    if signature is None:
        return "asgi3"
    if _takes_no_arguments(signature):
        raise ConfigError(f"{name} needs no arguments; if it makes the application, add --factory")
    if _accepts(signature, 3):
        if _never_awaitable(app):
            raise ConfigError(
                f"{name} is no asynchronous function; an ASGI application is: async def {_name_of(app)}{signature}"
            )
        return "asgi3"
    if not _is_async(app):
        if _accepts(signature, 1):
            return "asgi2"
        if _accepts(signature, 2):
            raise ConfigError(f"{name} looks like a WSGI application; use --interface wsgi")
    raise ConfigError(f"{name} takes {signature}; an ASGI application takes (scope, receive, send)")


def _detect_class(app: type, name: str) -> str:
    """Return the interface of a class: an ASGI 2 application is a class that is called with a scope and whose instances
    are called with (receive, send)."""
    if hasattr(app, "__await__"):
        return "asgi3"  # called with (scope, receive, send) and awaited, as Starlette's endpoints are
    constructor = _signature(app)
    call = inspect.getattr_static(app, "__call__", None)
    instance_call = _signature(call) if inspect.isfunction(call) else None
    if instance_call and _accepts(instance_call, 4) and not _accepts(instance_call, 3):  # with self
        hint = (
            "if it is made without arguments add --factory"
            if constructor and _accepts(constructor, 0)
            else "name an instance of it"
        )
        raise ConfigError(f"{name} is a class, its instances are the applications; {hint}")
    if constructor is not None and _accepts(constructor, 2) and not _accepts(constructor, 1):
        raise ConfigError(f"{name} looks like a WSGI application; use --interface wsgi")
    if constructor is not None and not _accepts(constructor, 1):
        raise ConfigError(f"{name} is a class that can't be made with a scope, so it is no ASGI application")
    return "asgi2"


def _is_async(app: Any) -> bool:
    while isinstance(app, functools.partial):
        app = app.func
    return iscoroutinefunction(app) or iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


def _never_awaitable(app: Any) -> bool:
    """Whether `app` is a function that by its code never returns an awaitable: a generator function, or one that
    returns only None."""
    if inspect.isgeneratorfunction(app) or inspect.isasyncgenfunction(app):
        return True
    if not inspect.isfunction(app) or _is_async(app):
        return False
    steps = [step for step in dis.get_instructions(app) if step.opname != "EXTENDED_ARG"]
    ends = [index for index, step in enumerate(steps) if step.opname.startswith("RETURN_")]
    return bool(ends) and all(None is _returned_constant(steps, index) for index in ends)


def _returned_constant(steps: list[dis.Instruction], index: int) -> Any:
    """Return the constant that the instruction at `index` returns; anything but None if it may not be a constant."""
    step = steps[index] if steps[index].opname == "RETURN_CONST" else steps[index - 1]
    return step.argval if step.opname in ("RETURN_CONST", "LOAD_CONST") else step


def _name_of(app: Any) -> str:
    return str(getattr(app, "__name__", "app"))


def _signature(app: Any) -> inspect.Signature | None:
    """Return the signature of `app` itself, not of a function that a decorator wrapped; None if Python can't tell."""
    try:
        return inspect.signature(app, follow_wrapped=False)
    except (ValueError, TypeError):
        return None


def _accepts(signature: inspect.Signature, count: int) -> bool:
    """Whether `signature` accepts `count` positional arguments."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _takes_no_arguments(signature: inspect.Signature) -> bool:
    """Whether `signature` accepts a call without arguments and has no `*args`, which may take some."""
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    return _accepts(signature, 0) and inspect.Parameter.VAR_POSITIONAL not in kinds
