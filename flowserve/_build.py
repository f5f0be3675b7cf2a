"""Build time only: the compiled modules, and the switch that leaves them out. Imports nothing of flowserve."""

from __future__ import annotations

import os

from setuptools.command.build_ext import build_ext as _build_ext


class build_ext(_build_ext):  # noqa: N801  (distutils names commands in lower case)
    """Compile the extensions, or none of them when FLOWSERVE_NO_EXTENSIONS=1; then the same files run as they are."""

    def finalize_options(self) -> None:
        if os.environ.get("FLOWSERVE_NO_EXTENSIONS", "") not in ("", "0"):
            self.distribution.ext_modules = []
        super().finalize_options()
