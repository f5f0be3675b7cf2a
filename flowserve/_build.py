"""Build time only: the compiled modules, the switch that leaves them out, and a whole source archive.

Imports nothing of flowserve.
"""

from __future__ import annotations

import os

from setuptools import Distribution
from setuptools.command.bdist_wheel import bdist_wheel as _bdist_wheel
from setuptools.command.build_ext import build_ext as _build_ext
from setuptools.command.sdist import sdist as _sdist

_DIRECTIVES = {
    "auto_pickle": False,  # what it adds sets any attribute to anything, also those that pointers are made of
    "embedsignature": True,  # inspect.signature() goes on knowing what has no annotations where `binding` is off
    "embedsignature.format": "clinic",
    "nonecheck": True,  # an attribute that __init__() has not set is None, and so may be an argument
}
"""For all modules. What differs between them stands at the head of each: with `binding=False` a method refuses a `self`
of another class, and is no coroutine function to inspect."""


def _obey_switch(distribution: Distribution) -> None:
    """Forget the extensions when FLOWSERVE_NO_EXTENSIONS=1; then the same files run as they are."""
    if os.environ.get("FLOWSERVE_NO_EXTENSIONS", "") not in ("", "0"):
        distribution.ext_modules = []


class build_ext(_build_ext):  # noqa: N801  (distutils names commands in lower case)
    """Compile the extensions, side by side, or none of them."""

    def finalize_options(self) -> None:
        _obey_switch(self.distribution)
        super().finalize_options()
        self.cython_directives = {**_DIRECTIVES, **(getattr(self, "cython_directives", None) or {})}
        self.parallel = self.parallel or True  # as many as there are cores


class bdist_wheel(_bdist_wheel):  # noqa: N801
    """A wheel for any Python where it has no extensions, and none that an earlier build has left."""

    def finalize_options(self) -> None:
        _obey_switch(self.distribution)  # before the wheel's tag and the place of the build are made from it
        super().finalize_options()


class sdist(_sdist):  # noqa: N801
    """The tests, examples and compliance tools are in it, whole."""

    def make_distribution(self) -> None:
        for folder in ("tests", "examples", "compliance"):
            self.filelist.graft(folder)
        for made in ("*.py[cod]", "*.so", "*.c"):
            self.filelist.global_exclude(made)
        super().make_distribution()
