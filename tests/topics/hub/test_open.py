"""Which backplane a URL names, and the options of topics."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flowserve import Config, ConfigError
from flowserve.topics.hub.open import ALONE, open_hub, reaches_machines
from flowserve.topics.message import Kind
from flowserve.topics.settings import Settings


async def app(scope: object, receive: object, send: object) -> None:
    raise AssertionError


def test_the_settings_of_topics_are_options_with_the_same_defaults() -> None:
    assert Settings.of(Config(app)) == Settings()


def test_options_become_settings() -> None:
    names = [field.name for field in dataclasses.fields(Settings)]
    given = {name: number for number, name in enumerate(names, 7)}
    settings = Settings.of(Config(app, **{f"topics_{name}": value for name, value in given.items()}))
    assert dataclasses.asdict(settings) == given


@pytest.mark.parametrize("url", [None, "memory:"])
async def test_memory(url: str | None) -> None:
    hub = open_hub(url, Settings())
    await hub.open()
    await hub.close()


async def test_one_of_several_that_nothing_connects(caplog) -> None:
    hub = open_hub(ALONE, Settings())
    await hub.open()
    await hub.close()
    assert "does not reach those who are subscribed in the others; set FLOWSERVE_TOPICS_URL=redis://HOST" in caplog.text


_PACKAGE = """
from flowserve.topics.local.memory import MemoryBackplane

def open_backplane(url, settings):
    assert url == "mine://host"
    return MemoryBackplane(settings)
"""


async def test_a_backplane_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_backplane.py").write_text(_PACKAGE)
    information = tmp_path / "my_backplane-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-backplane\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[flowserve.backplanes]\nmine = my_backplane:open_backplane\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    url = "mine://host"
    hub = open_hub(Config(app, topics_url=url).topics_url, Settings())
    assert reaches_machines(url)
    assert await hub.publish("t", b"x", Kind.TEXT)
    await hub.close()


def test_what_names_no_backplane() -> None:
    with pytest.raises(ConfigError, match="kafka: is not known"):
        open_hub("kafka://host", Settings())
    with pytest.raises(ConfigError, match="names no backplane") as refused:
        Config(app, topics_url="kafka://user:secret@host")
    assert "secret" not in str(refused.value)
