"""The program of test_misuse.py: calls all that Python can reach in compiled modules, as nobody should.

    python -m support.misuse JOURNAL FIRST MODULE...

Each step is written into the file JOURNAL before it is taken, with its number, so that whoever reads that behind a
crash knows which it was, and can have another process go on behind it: FIRST is the first one to take.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import gc
import importlib
import itertools
import logging
import mmap
import os
import random
import resource
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from support.misuse_values import Arguments, Objects, Value

JOURNAL_SIZE = 1024
"""Bytes: the number of the step in 16 digits, and what it is."""
MEMORY = 3 << 30
"""Bytes of address space: beyond it there is MemoryError, however much the machine has."""
SEED = 20261129
DRAWS = 10
"""Calls with arguments drawn by lot, of each function on each object."""
STORMS = 40
"""Objects of each class that take many calls in a row."""
STORM = 25
TURN = 200
"""Steps in a turn of the event loop, which then calls what they have left there."""

Parameters = list[tuple[str, str]]
"""Names and annotations."""


class Journal:
    """Numbers the steps, and takes those from `first` on."""

    def __init__(self, path: str, first: int) -> None:
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), JOURNAL_SIZE)
        self.first = first
        self.number = -1

    def due(self, what: str) -> bool:
        """Whether to take the next step, which is `what`."""
        self.number += 1
        if self.number < self.first:
            return False
        self.note(what)
        return True

    def note(self, what: str) -> None:
        line = f"{self.number:016d}{what}".encode("utf-8", "backslashreplace")
        self.memory[:JOURNAL_SIZE] = line[:JOURNAL_SIZE].ljust(JOURNAL_SIZE, b"\0")


@functools.cache
def signatures(module: str) -> dict[str, Parameters]:
    """The parameters of a module's functions, and of its classes' methods as Class.method, from its source."""
    path = str(getattr(sys.modules[module], "__file__", ""))
    if "." not in path:
        return {}
    tree = ast.parse(Path(path[: path.index(".", path.rindex("/"))] + ".py").read_text())
    found: dict[str, Parameters] = {}
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for each in inside:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                every = [*each.args.args, *each.args.kwonlyargs][1 if prefix else 0 :]
                found[prefix + each.name] = [(a.arg, ast.unparse(a.annotation or ast.Constant(""))) for a in every]
    return found


class Walk:
    """All steps of one module."""

    def __init__(self, module: ModuleType, journal: Journal, loop: asyncio.AbstractEventLoop) -> None:
        self.module = module
        self.journal = journal
        self.objects = Objects(loop)
        self.arguments = Arguments(self.objects)

    def steps(self) -> Iterator[None]:
        for name, each in sorted(vars(self.module).items()):
            if type(each) is type and each.__module__ == self.module.__name__:
                yield from self.class_steps(each)
            elif callable(each) and getattr(each, "__module__", None) == self.module.__name__:
                for arguments in self.calls(signatures(self.module.__name__).get(name, [])):
                    yield from self.step(name, functools.partial(lambda target: target, each), arguments)

    def class_steps(self, kind: type) -> Iterator[None]:
        """What it has from the classes below it was seen with these; only the storms have it again."""
        methods, attributes = members(vars(kind))
        yield from self.making(kind)
        for one in self.objects.conditions(kind):
            for name in methods:
                for arguments in self.calls(self.parameters_of(kind, name)):
                    found = lambda one=one, name=name: getattr(one.make(), name)  # noqa: E731
                    yield from self.step(f"{kind.__name__}.{name} of {one.label}", found, arguments)
            for name in attributes:
                yield from self.touching(kind, name, one)
        for name in methods:
            good = [self.arguments.good(annotation) for _, annotation in self.parameters_of(kind, name)]
            for stranger in self.arguments.all:
                found = functools.partial(getattr, kind, name)
                yield from self.step(f"{kind.__name__}.{name}", found, [stranger, *good])
        if kind in self.objects.new:
            for attribute in attributes:
                yield from self.using_behind(kind, attribute, methods)
            yield from self.storms(kind, members(everything(kind))[0])

    def making(self, kind: type) -> Iterator[None]:
        for arguments in self.calls(self.parameters_of(kind, "__init__")):
            yield from self.step(kind.__name__, lambda: kind, arguments)

    def parameters_of(self, kind: type, name: str) -> Parameters:
        for base in kind.__mro__:
            if (found := signatures(base.__module__).get(f"{base.__name__}.{name}")) is not None:
                return found
        return [("", "")] * {"__init__": 4, "__getattr__": 1, "__reduce__": 0, "__repr__": 0}.get(name, 1)

    def calls(self, parameters: Parameters) -> Iterator[list[Value]]:
        """With one argument wrong at a time, with all the same, by lot, and with too few and too many."""
        good = [self.arguments.good(annotation) for _, annotation in parameters]
        yield good
        yield good[:-1]
        yield [*good, *good, Value("None", lambda: None)]
        for at, (_, annotation) in enumerate(parameters):
            for bad in self.arguments.bad(annotation):
                yield [*good[:at], bad, *good[at + 1 :]]
        if len(parameters) > 1:
            yield from ([each] * len(parameters) for each in self.arguments.all)
            lot = random.Random(f"{SEED} {parameters}")
            yield from ([lot.choice(self.arguments.bad(a)) for _, a in parameters] for _ in range(DRAWS))

    def step(self, what: str, found: Callable[[], Any], arguments: list[Value]) -> Iterator[None]:
        if self.journal.due(f"{self.module.__name__}: {what}({', '.join(each.label for each in arguments)})"):
            attempt(lambda: drive(found()(*[each.make() for each in arguments])))
            yield

    def touching(self, kind: type, name: str, one: Value) -> Iterator[None]:
        """Read an attribute, write and delete it."""
        what = f"{self.module.__name__}: {kind.__name__}.{name} of {one.label}"
        if self.journal.due(what):
            attempt(lambda: getattr(one.make(), name))
            yield
        if self.journal.due(f"del {what}"):
            attempt(lambda: delattr(one.make(), name))
            yield
        for each in self.arguments.all:
            if self.journal.due(f"{what} = {each.label}"):
                attempt(lambda each=each: setattr(one.make(), name, each.make()))
                yield

    def using_behind(self, kind: type, attribute: str, methods: list[str]) -> Iterator[None]:
        """Use an object of which an attribute was set to something wrong."""
        for each in self.arguments.all:
            what = f"{self.module.__name__}: {kind.__name__} with {attribute} = {each.label}"
            if self.journal.due(what):
                it = self.objects.of(kind)
                if attempt(setattr, it, attribute, each.make()):
                    for name in methods:
                        self.journal.note(f"{what}: {name}")
                        self.use(it, name, [self.arguments.good(a) for _, a in self.parameters_of(kind, name)])
                yield

    def storms(self, kind: type, methods: list[str]) -> Iterator[None]:
        """Many calls in a row of one object, half of them with good arguments; all that they return is kept."""
        for number in range(STORMS):
            what = f"{self.module.__name__}: {kind.__name__}, storm {number}"
            if self.journal.due(what):
                lot = random.Random(f"{SEED} {kind} {number}")
                it, kept, calls = self.objects.of(kind), [], []
                for _ in range(STORM):
                    name = lot.choice(methods)
                    given = self.drawn(lot, self.parameters_of(kind, name))
                    calls.append(f"{name}({', '.join(each.label for each in given)})")
                    self.journal.note(f"{what}: {' '.join(calls[-6:])}")
                    kept.append(self.use(it, name, given))
                yield

    def drawn(self, lot: random.Random, parameters: Parameters) -> list[Value]:
        if lot.random() < 0.5:
            return [self.arguments.good(annotation) for _, annotation in parameters]
        return [lot.choice(self.arguments.bad(annotation)) for _, annotation in parameters]

    def use(self, it: Any, name: str, given: list[Value]) -> Any:
        return attempt(lambda: drive(getattr(it, name)(*[each.make() for each in given])))


def everything(kind: type) -> dict[str, Any]:
    """What a class has, from those below it too."""
    return dict(itertools.chain.from_iterable(vars(base).items() for base in kind.__mro__[-2::-1]))


def members(found: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The names of the methods and of the attributes among what a class has."""
    described = (GetSetDescriptorType, MemberDescriptorType, property)
    attributes = [name for name, each in found.items() if isinstance(each, described)]
    methods = [name for name, each in found.items() if callable(each) and name not in {"__new__", "__class__"}]
    return sorted(methods), sorted(attributes)


def attempt(action: Callable[..., Any], *arguments: Any) -> Any:
    """Any exception will do. Returns what came of it, in a tuple; None when there was one."""
    try:
        return (action(*arguments),)
    except BaseException as error:
        error.__traceback__ = None
        return None


def drive(result: Any) -> Any:
    """Have a coroutine or an iterator take its first step, and write to memory that may be written to."""
    if isinstance(result, memoryview) and not result.readonly:
        result[:] = b"\x80" * len(result)
    elif hasattr(result, "send") and hasattr(result, "close"):
        try:
            result.send(None)
        finally:
            result.close()
    elif hasattr(result, "__next__"):
        next(result)
    return result


async def walk(journal: Journal, names: list[str]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    for name in names:
        for number, _ in enumerate(Walk(importlib.import_module(name), journal, loop).steps()):
            if not number % TURN:
                journal.note(f"{name}: a turn of the event loop, behind step {journal.number}")
                await asyncio.sleep(0)
        journal.note(f"{name}: what is left over")
        gc.collect()


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    sys.unraisablehook = lambda unraisable: None
    if "ASAN_OPTIONS" not in os.environ:  # AddressSanitizer takes terabytes, and has a limit of its own
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    journal, first, *modules = sys.argv[1:]
    asyncio.run(walk(Journal(journal, int(first)), modules))


if __name__ == "__main__":
    main()
