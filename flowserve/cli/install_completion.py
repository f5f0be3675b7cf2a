"""`flowserve --install-completion`: has a shell load the completion whenever it starts."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from flowserve.cli.completion import SHELLS, script
from flowserve.errors import ConfigError

_GENERATIONS = 4
"""Parent processes to look at for the shell: `uv run` and the like stand between."""
_MARK = "# completion of flowserve"


def install(shell: str = "") -> str:
    """Write the completion for a shell, by default the one that has started this process, and return what to tell the
    user: what was written, and how to undo it. Raises ConfigError if the shell is unknown or a file can't be written.
    """
    name = shell or _running_shell()
    if name not in SHELLS:
        known = "this shell is unknown" if not shell else f"{shell!r} is unknown"
        raise ConfigError(f"--install-completion: {known}; write --install-completion {', '.join(SHELLS[:-1])} or fish")
    path, startup = _places(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script(name), "utf-8")
        if startup is None:
            return f"Wrote {path}, which {name} loads by itself.\nTo undo it: rm {shlex.quote(str(path))}"
        line = f"[ -f {shlex.quote(str(path))} ] && . {shlex.quote(str(path))} {_MARK}"
        how = "Wrote this line at the end of" if _append(startup, line) else "This line is already in"
    except OSError as error:
        raise ConfigError(f"--install-completion: can't write {error.filename}: {error.strerror}") from None
    return (
        f"Wrote {path}\n{how} {startup}:\n    {line}\n"
        f"New shells complete flowserve; this one after: . {shlex.quote(str(path))}\n"
        f"To undo it: delete that line, and rm {shlex.quote(str(path))}"
    )


def _append(path: Path, line: str) -> bool:
    """Append a line to a file unless it has it; return whether it was appended."""
    text = path.read_text("utf-8", "surrogateescape") if path.exists() else ""
    if line in text.splitlines():
        return False
    with path.open("a", encoding="utf-8") as file:
        file.write(("" if not text or text.endswith("\n") else "\n") + line + "\n")
    return True


def _places(shell: str) -> tuple[Path, Path | None]:
    """Return the file for the script, and the one in which the shell is told to load it, None if it looks there itself.
    Folders are those of the XDG Base Directory Specification."""
    try:
        home = Path.home()
    except RuntimeError:
        raise ConfigError("--install-completion: this user has no home folder") from None
    if shell == "fish":
        return _xdg("XDG_CONFIG_HOME", home / ".config") / "fish" / "completions" / "flowserve.fish", None
    path = _xdg("XDG_DATA_HOME", home / ".local" / "share") / "flowserve" / f"completion.{shell}"
    if shell == "zsh":
        return path, Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    return path, home / ".bashrc"


def _xdg(variable: str, default: Path) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else default


def _running_shell() -> str:
    """Return the name of the shell that has started this process; where the system does not tell, the user's own."""
    process = os.getppid()
    for _ in range(_GENERATIONS):
        try:
            name, _, rest = Path(f"/proc/{process}/stat").read_text("utf-8").partition("(")[2].rpartition(")")
        except OSError:
            break
        if name in SHELLS:
            return name
        process = int(rest.split()[1])
    return os.path.basename(os.environ.get("SHELL", ""))
