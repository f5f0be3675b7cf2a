"""--install-completion: what is written, and what is said of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flowserve.cli.completion import script
from flowserve.cli.install_completion import install
from flowserve.errors import ConfigError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder of its own."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_bash(home):
    (home / ".bashrc").write_text("alias a=b")
    path = home / ".local" / "share" / "flowserve" / "completion.bash"
    line = f"[ -f {path} ] && . {path} # completion of flowserve"
    assert install("bash") == (
        f"Wrote {path}\nWrote this line at the end of {home}/.bashrc:\n    {line}\n"
        f"New shells complete flowserve; this one after: . {path}\nTo undo it: delete that line, and rm {path}"
    )
    assert path.read_text() == script("bash")
    assert (home / ".bashrc").read_text() == f"alias a=b\n{line}\n"
    assert f"This line is already in {home}/.bashrc:" in install("bash")
    assert (home / ".bashrc").read_text() == f"alias a=b\n{line}\n"


def test_zsh(home, monkeypatch):
    monkeypatch.setenv("ZDOTDIR", str(home / "zsh"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "da ta"))
    (home / "zsh").mkdir()
    install("zsh")
    path = home / "da ta" / "flowserve" / "completion.zsh"
    assert path.read_text() == script("zsh")
    wanted = f"[ -f '{path}' ] && . '{path}' # completion of flowserve\n"
    assert (home / "zsh" / ".zshrc").read_text() == wanted


def test_fish(home):
    path = home / ".config" / "fish" / "completions" / "flowserve.fish"
    assert install("fish") == f"Wrote {path}, which fish loads by itself.\nTo undo it: rm {path}"
    assert path.read_text() == script("fish")


def test_the_shell_that_runs_it(home):
    """Which need not be the one that the user logs in with."""
    command = f'"{sys.executable}" -m flowserve --install-completion; true'
    environment = os.environ | {"HOME": str(home), "SHELL": "/bin/zsh"}
    run = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.startswith(f"Wrote {home}/.local/share/flowserve/completion.bash\n")
    assert run.stderr == ""


def test_what_can_not_be_done(home):
    with pytest.raises(
        ConfigError, match=r"^--install-completion: 'csh' is unknown; write --install-completion bash, zsh or fish"
    ):
        install("csh")
    (home / ".local").write_text("")
    with pytest.raises(ConfigError, match=r"^--install-completion: can't write .*/\.local.*: "):
        install("bash")
