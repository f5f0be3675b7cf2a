"""--reload: which files have changed, as watchfiles tells or, without it, as looking at them again and again shows."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Any

from flowserve.config import Config
from flowserve.config.config import OPTIONS
from flowserve.errors import ConfigError, install_hint
from flowserve.logs.loggers import logger

try:
    import watchfiles
except ImportError:
    watchfiles = None  # type: ignore[assignment]

_POLL_SHARE = 0.05
"""Most of a CPU that looking at all files takes: where there are very many, that is done less often."""


class Changes:
    """An asynchronous iterator over lists of changed paths. It can be iterated over once.

    `folders` are those that are watched. What may not be read, dangling links and folders that vanish are passed over.
    """

    def __init__(self, config: Config) -> None:
        """Raises ConfigError for a folder that does not exist, and if none may be read."""
        self._includes = _with_defaults("reload_includes", config.reload_includes, config.reload_excludes)
        self._excludes = _with_defaults("reload_excludes", config.reload_excludes, config.reload_includes)
        self._excluded_folders = [os.path.realpath(each) for each in config.reload_excludes if _is_folder(each)]
        self._delay = config.reload_delay
        self.folders = list(_folders(config))

    async def __aiter__(self) -> AsyncIterator[list[str]]:
        if watchfiles is None:
            hint = install_hint("watchfiles")
            logger.info("%s, which notices changes sooner and for less CPU time than looking for them does", hint)
        else:
            debounce = max(1, round(self._delay * 1000))  # the most milliseconds for which changes are collected
            options: dict[str, Any] = {"watch_filter": self.is_watched, "debounce": debounce}
            try:
                async for changes in watchfiles.awatch(*self.folders, ignore_permission_denied=True, **options):
                    yield sorted({path for _, path in changes})
            except (OSError, RuntimeError) as error:
                logger.info("Looks for changes now and then, as the system doesn't tell of all: %s", error)
        async for paths in self._poll():
            yield paths

    async def _poll(self) -> AsyncIterator[list[str]]:
        before = self._look()
        interval = self._delay
        while True:
            await asyncio.sleep(interval)
            began = time.monotonic()
            now = await asyncio.to_thread(self._look)
            interval = max(self._delay, (time.monotonic() - began) / _POLL_SHARE)
            if before != now:
                yield sorted({path for path, _ in before.items() ^ now.items()})
            before = now

    def _look(self) -> dict[str, tuple[int, int]]:
        """Return the watched files with time of modification in ns and size."""
        return {path: state for folder in self.folders for path, state in self._files(folder)}

    def _files(self, folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield the files that `is_watched()` would let through, without going into folders that are excluded."""
        waiting, visited = [(folder, "")], set()
        while waiting:
            here, prefix = waiting.pop()
            try:
                about = os.stat(here)
                if (about.st_dev, about.st_ino) in visited:
                    continue  # links may lead in circles
                visited.add((about.st_dev, about.st_ino))
                entries = list(os.scandir(here))
            except OSError:
                continue
            for entry in entries:
                path = prefix + entry.name
                if self._is_excluded(entry.path, entry.name, path):
                    continue
                try:
                    if entry.is_dir():
                        waiting.append((entry.path, f"{path}/"))
                    elif self._is_included(entry.path, entry.name, path):
                        about = entry.stat()
                        yield entry.path, (about.st_mtime_ns, about.st_size)
                except OSError:
                    continue

    def is_watched(self, _change: Any, path: str) -> bool:
        """Return whether the file's name, its path relative to a watched folder, or the end of its whole path matches
        an included pattern, and neither the file nor a folder on the relative path matches an excluded one or is an
        excluded folder."""
        relative = self.name(path)
        root = path.removesuffix(relative)
        parts = Path(relative).parts
        for count, part in enumerate(parts, 1):
            here = "/".join(parts[:count])
            if self._is_excluded(root + here, part, here):
                return False
        return self._is_included(path, parts[-1], relative)

    def _is_excluded(self, path: str, name: str, relative: str) -> bool:
        return path in self._excluded_folders or _matches(path, name, relative, self._excludes)

    def _is_included(self, path: str, name: str, relative: str) -> bool:
        return _matches(path, name, relative, self._includes)

    def name(self, path: str) -> str:
        """Return the path relative to its watched folder."""
        for folder in self.folders:
            if path.startswith(f"{folder}{os.sep}"):
                return os.path.relpath(path, folder)
        return os.path.basename(path)


def _folders(config: Config) -> Iterator[str]:
    named = (*config.reload_dirs, *filter(_is_folder, config.reload_includes)) or (".", config.app_dir)
    flag = "--reload-dir" if config.reload_dirs else "--app-dir"
    paths: list[str] = []
    for name in named:
        path = os.path.realpath(name)
        if not os.path.exists(path):
            raise ConfigError(f"{flag}: {name!r} is not there")
        if os.access(path, os.R_OK):
            paths.append(path)
        else:
            logger.warning("%s: %r may not be read, so its changes are not noticed", flag, name)
    if not paths:
        raise ConfigError(f"{flag}: no folder that may be read is left to watch; name others by --reload-dir")
    for path in dict.fromkeys(paths):
        if not any(path.startswith(f"{other}{os.sep}") for other in paths):
            yield path


def _is_folder(pattern: str) -> bool:
    """Whether the pattern is the path of a folder; a name alone, as tests, is a pattern for every folder of the
    name."""
    return os.sep in pattern and os.path.isdir(pattern)


def _with_defaults(option: str, given: tuple[str, ...], opposite: tuple[str, ...]) -> tuple[str, ...]:
    """Return the patterns `given` for an option and its defaults, but for those that the `opposite` option has."""
    defaults = [pattern for pattern in OPTIONS[option].default if pattern not in opposite]
    return (*defaults, *given)


def _matches(path: str, name: str, relative: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern matches the name, the path relative to a watched folder, or the end of the whole path."""
    return any(fnmatch(name, each) or fnmatch(relative, each) for each in patterns) or any(
        PurePath(path).match(each) for each in patterns if PurePath(each).parts
    )
