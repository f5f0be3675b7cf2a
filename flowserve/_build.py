"""Build time only: the compiled modules and their compiler's flags, the switch that leaves them out, and a whole source
archive.

Imports nothing of flowserve.
"""

from __future__ import annotations

import functools
import gc
import os
import shlex
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, Extension
from setuptools.command.bdist_wheel import bdist_wheel as _bdist_wheel
from setuptools.command.build_ext import build_ext as _build_ext
from setuptools.command.sdist import sdist as _sdist
from setuptools.errors import BaseError, CCompilerError

_DIRECTIVES = {
    "auto_pickle": False,  # what it adds sets any attribute to anything, also those that pointers are made of
    "embedsignature": True,  # inspect.signature() goes on knowing what has no annotations where `binding` is off
    "embedsignature.format": "clinic",
    "nonecheck": True,  # an attribute that __init__() has not set is None, and so may be an argument
}
"""For all modules. What differs between them stands at the head of each: with `binding=False` a method refuses a `self`
of another class, and is no coroutine function to inspect."""

_SHARED = "flowserve._cyutility"
"""Where what Cython adds to each module is compiled once, as far as Cython can: 8 % of a wheel."""
_UNUSED = ["MemoryView"]
"""What of that no module needs."""

_WARM, _HOT = "-Og", "-O1"
"""How much the C compiler optimises: in general, and where more pays by the instructions that callgrind counts. -O1
takes half as long again as -Og, and saves a request 8 % of them, a message 4 %. -O2 takes as much again to save 1 %
more."""
_HOT_MODULES = {
    "flowserve.asgi.application",
    "flowserve.asgi.http",
    "flowserve.asgi.scope",
    "flowserve.asgi.websocket",
    "flowserve.http.messages",
    "flowserve.http.request_parser",
    "flowserve.http.response_encoder",
    "flowserve.server.h1_connection",
    "flowserve.server.h1_response_stream",
    "flowserve.server.upgrade",
    "flowserve.session.fan_out",
    "flowserve.session.keepalive",
    "flowserve.session.receiver",
    "flowserve.session.sender",
    "flowserve.session.session",
    "flowserve.session.writer",
    "flowserve.transport.flush_queue",
    "flowserve.transport.listener",
    "flowserve.transport.poller",
    "flowserve.transport.socket_transport",
    "flowserve.transport.stream",
    "flowserve.transport.timers",
    "flowserve.websocket.assembly",
    "flowserve.websocket.connection",
    "flowserve.websocket.frames",
    "flowserve.websocket.output",
    "flowserve.websocket.payload",
    "flowserve.websocket.server_handshake",
}

_COMPILE = ("-g0", "-w", "-DNDEBUG")
"""No debug information, which would be four fifths of what is installed; no warnings about code that Cython has
written, which take a seventh of the compiler's time to find; and no assertions of CPython's headers, whatever CFLAGS
say."""
_LINK = ("-Wl,-s",) if sys.platform == "linux" else ("-Wl,-x",)
"""Without the names of functions that nobody links to, which Apple's linker leaves out by another option. They are 5 %
of a wheel."""


@functools.cache
def _why_not() -> str:
    """Return why no extensions can be compiled here, or an empty string.

    One attempt before all else: without a compiler Cython's work would be for nothing, and each of the modules would
    have its own complaint.
    """
    if os.environ.get("FLOWSERVE_NO_EXTENSIONS", "") not in ("", "0"):
        return "FLOWSERVE_NO_EXTENSIONS is set"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <Python.h>\nPyMODINIT_FUNC PyInit_probe(void) { return NULL; }\n")
        attempt = _build_ext(Distribution({"name": "probe", "ext_modules": [Extension("probe", [str(source)])]}))
        attempt.build_temp = attempt.build_lib = folder
        try:
            attempt.ensure_finalized()
            attempt.run()
        except (CCompilerError, BaseError) as error:
            return f"no C compiler with Python's headers: {error}"
    return ""


def _leave_out(distribution: Distribution) -> bool:
    """Forget the extensions if they can't or shall not be compiled; then the same files run as they are."""
    if _why_not():
        distribution.ext_modules = []
    return bool(_why_not())


class build_ext(_build_ext):  # noqa: N801  (distutils names commands in lower case)
    """Compile the extensions, side by side, or none of them."""

    def finalize_options(self) -> None:
        if _leave_out(self.distribution):
            self.warn(f"flowserve will run as plain Python, which takes more CPU time: {_why_not()}")
        super().finalize_options()
        self.cython_directives = {**_DIRECTIVES, **(getattr(self, "cython_directives", None) or {})}
        self.shared_utility_qualified_name = _SHARED
        self.shared_utility_features_disabled = _UNUSED
        self.parallel = self.parallel or True  # as many as there are cores

    def build_extensions(self) -> None:
        gc.disable()  # it would take a third of Cython's time to go through trees that are all alive
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        """Compile one, with CFLAGS of the environment behind the flags from here, so that they win."""
        if self.compiler.compiler_type == "unix":
            given = shlex.split(os.environ.get("CFLAGS", ""))
            ext.extra_compile_args = [_HOT if ext.name in _HOT_MODULES else _WARM, *_COMPILE, *given]
            ext.extra_link_args = [] if given else list(_LINK)
        super().build_extension(ext)


class bdist_wheel(_bdist_wheel):  # noqa: N801
    """A wheel for any Python where it has no extensions, and none that an earlier build has left."""

    def finalize_options(self) -> None:
        _leave_out(self.distribution)  # before the wheel's tag and the place of the build are made from it
        super().finalize_options()


class sdist(_sdist):  # noqa: N801
    """The tests, examples and compliance tools are in it, whole."""

    def make_distribution(self) -> None:
        for folder in ("tests", "examples", "compliance"):
            self.filelist.graft(folder)
        for made in ("*.py[cod]", "*.so", "*.c"):
            self.filelist.global_exclude(made)
        super().make_distribution()
