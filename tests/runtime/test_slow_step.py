"""The line about a step that takes long, and no line about one that does not."""

from __future__ import annotations

import logging
import signal
import sys
import threading

import pytest

from flowserve.logs.loggers import logger
from flowserve.runtime import slow_step
from flowserve.runtime.slow_step import noticed_if_slow


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.masks: list[set[signal.Signals]] = []
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        if sys.platform != "win32":
            self.masks.append({*signal.pthread_sigmask(signal.SIG_BLOCK, ())})  # type: ignore[arg-type]
        self.event.set()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    handler = Heard()
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    return handler


def test_a_step_that_blocks_the_thread(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_step, "_NOTICE_TIME", 0.01)
    with noticed_if_slow("the application's startup"):
        assert heard.event.wait(10)
    assert heard.texts == ["Waiting for the application's startup"]
    if sys.platform != "win32":
        assert {signal.SIGUSR1, signal.SIGTERM} <= heard.masks[0]
        assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_quick_step_and_one_that_fails(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_step, "_NOTICE_TIME", 3600.0)
    before = set(threading.enumerate())
    with noticed_if_slow("nothing"):
        timers = set(threading.enumerate()) - before
    with pytest.raises(KeyError), noticed_if_slow("nothing"):
        raise KeyError
    for timer in timers:
        timer.join(10)
        assert not timer.is_alive()
    assert heard.texts == []
