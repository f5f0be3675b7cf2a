"""The keywords of Config: other spellings of the options, and what the mistakes are answered with."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import re
import subprocess
import sys

import pytest

from flowserve.config import Config


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"reload_dir": "src"}, {"reload_dirs": "src"}),
        ({"reload_include": ["*.html"]}, {"reload_includes": ["*.html"]}),
        ({"reload_exclude": "a"}, {"reload_excludes": "a"}),
        ({"header": [("a", "b")]}, {"headers": [("a", "b")]}),
    ],
)
def test_the_words_of_the_command_line(given, same):
    assert Config("a:b", **given) == Config("a:b", **same)
    with pytest.raises(TypeError, match=r"^the keywords '\w+' and '\w+' mean the same; "):
        Config("a:b", **given, **same)


@pytest.mark.parametrize(
    ("keyword", "hint"),
    [
        ("prot", "did you mean port?"),
        ("ws_max_sise", "did you mean ws_max_size?"),
        ("wokers", "did you mean workers?"),
        ("zzz", "they are the options of flowserve --help all, with _ for -"),
    ],
)
def test_an_unknown_keyword_is_answered_with_the_nearest(keyword, hint):
    with pytest.raises(TypeError, match=re.escape(f"there is no keyword {keyword!r}; {hint}") + "$"):
        Config("a:b", **{keyword: 1})


def test_options_by_position_are_refused():
    with pytest.raises(TypeError, match=r"takes one argument by position; write host=, port= and so on$"):
        Config("a:b", "127.0.0.1", 8000)  # type: ignore[misc]


@pytest.mark.parametrize(("dual", "host"), [(True, "::"), (False, "0.0.0.0")])
def test_no_host_is_every_interface(monkeypatch, dual, host):
    monkeypatch.setattr("socket.has_dualstack_ipv6", lambda: dual)
    assert Config("a:b", host=None).host == host  # type: ignore[arg-type]


def test_reload_has_one_worker():
    with pytest.warns(UserWarning, match="^workers has no effect with reload"):
        assert Config("a:b", reload=True, workers=4).workers == 1
    assert Config("a:b", reload=True, workers=1).reload


def test_a_config_is_still_a_dataclass():
    config = Config("a:b", port=1)
    assert dataclasses.replace(config, port=2) == Config("a:b", port=2)
    assert pickle.loads(pickle.dumps(config)) == config
    parameters = inspect.signature(Config).parameters
    assert next(iter(parameters)) == "app"
    assert {"host", "ssl_certfile"} <= set(parameters)


def test_a_warning_names_the_line_of_the_program(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import flowserve\n\nflowserve.run('no_such_module:app', port=0, ws='wsproto')\n")
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    where, line = run.stderr.splitlines()[:2]
    assert where.startswith(f"{program}:3: UserWarning: ws wsproto has no effect: ")
    assert line == "  flowserve.run('no_such_module:app', port=0, ws='wsproto')"
