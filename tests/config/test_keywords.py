"""The types of the options are those of the declaration."""

from __future__ import annotations

from typing import get_type_hints

import pytest
from support.option_types import FILE, render

from flowserve.config.config import OPTIONS
from flowserve.config.from_uvicorn import FOREIGN
from flowserve.config.keywords import ConfigKeywords
from flowserve.config.option import name_by_keyword


def test_the_file_is_made_from_the_declaration():
    assert FILE.read_text("utf-8") == render(), "write it anew: .venv/bin/python tests/support/option_types.py"


def test_every_option_has_a_type():
    words = {option.word.replace("-", "_") for option in OPTIONS.values()}
    assert set(get_type_hints(ConfigKeywords)) == {*OPTIONS, *words, *FOREIGN}


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("--ws-max-size: no", "ws_max_size: no"),
        ("--header: no", "headers: no"),
        ("--reload and --workers exclude each other", "reload and workers exclude each other"),
        ("add --factory", "add factory=True"),
        ("use --interface wsgi", "use interface='wsgi'"),
        ("--bind systemd: none", "bind systemd: none"),
        ("--port 80--82 and --verbose of another program", "port 80--82 and --verbose of another program"),
    ],
)
def test_flags_in_messages_become_keywords(message, named):
    assert name_by_keyword(message, OPTIONS) == named
