"""Completion of the command line in bash, zsh and fish.

A shell runs a function of the script that `script()` returns when Tab is pressed. It runs the command again, with the
line up to the cursor in the environment, and `respond()` prints a line for each candidate: what it is, its text, and an
explanation, with tabs between them. Click finds the parameter that is being typed; the rest is here, as click's own
scripts take no APP with a colon in it, which bash takes for three words, nor values behind an equals sign.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem, ShellComplete

from flowserve.cli.discovery import applications_below, applications_in, module_file
from flowserve.cli.help import ALL
from flowserve.cli.help import topics as help_topics
from flowserve.cli.subcommands import SUBCOMMANDS, load

VARIABLE = "_FLOWSERVE_COMPLETE"
"""The environment variable that asks for a script, as bash_source, or for candidates, as bash_complete; the one that
click uses, so that what packages completions of other commands works with this one."""
SHELLS = ("bash", "zsh", "fish")

_PROGRAM = "flowserve"
_MARK = "\x1a"  # stands where the cursor is; it can't be typed
_SPECIAL = re.compile(r"[^\w./:=@%+,-]")
"""Characters that bash takes for something else without a backslash; other shells write it themselves."""
_BASH = r"""
_flowserve_completion() {
    local IFS=$'\t' kind value help
    COMPREPLY=()
    while read -r kind value help; do
        case $kind in
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            part) compopt -o nospace; COMPREPLY+=("$value") ;;
            *) COMPREPLY+=("$value") ;;
        esac
    done < <(_FLOWSERVE_COMPLETE=bash_complete COMP_LINE="${COMP_LINE:0:COMP_POINT}" \
        COMP_WORDBREAKS="$COMP_WORDBREAKS" "${1/#\~/$HOME}" 2>/dev/null)
}
complete -o nosort -F _flowserve_completion flowserve 2>/dev/null || complete -F _flowserve_completion flowserve
"""
_ZSH = r"""#compdef flowserve
_flowserve_completion() {
    local kind value help row
    local -a described
    local typed="${(j: :)words[1,CURRENT-1]} $PREFIX"
    integer status_=1
    for row in "${(@f)$(_FLOWSERVE_COMPLETE=zsh_complete COMP_LINE="$typed" ${~words[1]} 2>/dev/null)}"; do
        IFS=$'\t' read -r kind value help <<< "$row"
        [[ $kind == (file|dir) && $PREFIX == -*=* ]] && compset -P '*='
        case $kind in
            file) _files && status_=0 ;;
            dir) _files -/ && status_=0 ;;
            part) compadd -S '' -- "$value" && status_=0 ;;
            plain)
                if [[ -n $help ]]; then described+=("${value//:/\\:}:$help")
                else compadd -- "$value" && status_=0
                fi ;;
        esac
    done
    (( ${#described} )) && _describe -V flowserve described && status_=0
    return status_
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _flowserve_completion "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _flowserve_completion flowserve
fi
"""
_FISH = r"""
function _flowserve_completion
    set -l program (string replace -r '^~' $HOME -- (commandline -opc)[1])
    set -l before (string match -r -- '^-[^=]*=' (commandline -ct))
    for row in (_FLOWSERVE_COMPLETE=fish_complete COMP_LINE=(commandline -cp) $program 2>/dev/null)
        set -l parts (string split \t -- $row)
        switch $parts[1]
            case file
                printf "$before%s\n" (__fish_complete_path $parts[2])
            case dir
                printf "$before%s\n" (__fish_complete_directories $parts[2])
            case '*'
                printf '%s\t%s\n' $parts[2] $parts[3]
        end
    end
end
complete -c flowserve -f -a '(_flowserve_completion)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


class _Typed(NamedTuple):
    """A line up to the cursor."""

    args: list[str]
    """The complete words, without the name of the command."""
    incomplete: str
    """The word that the cursor is at, or the empty text."""
    is_quoted: bool
    """Whether that word begins with a quote, and bash does not break it."""


def script(shell: str) -> str:
    """Return what a shell has to run to complete the command."""
    return _SCRIPTS[shell].lstrip("\n")


def respond(command: click.Command, instruction: str) -> int:
    """Print what the shell asks for with `VARIABLE`, and return the exit status."""
    shell, _, what = instruction.partition("_")
    if shell not in SHELLS or what not in ("source", "complete"):
        return 1
    if what == "source":
        click.echo(script(shell), nl=False)
        return 0
    typed = _parse(os.environ.get("COMP_LINE", ""))
    breaks = os.environ.get("COMP_WORDBREAKS", "") if shell == "bash" and not typed.is_quoted else ""
    for item in candidates(command, typed.args, typed.incomplete):
        value = _behind_break(item.value, typed.incomplete, breaks)
        if shell == "bash" and not typed.is_quoted:
            value = _SPECIAL.sub(r"\\\g<0>", value)
        explanation = " ".join((item.help or "").split())
        click.echo(f"{item.type}\t{value}\t{explanation}")
    return 0


def candidates(command: click.Command, args: list[str], incomplete: str) -> Iterable[CompletionItem[str]]:
    """Yield what the word `incomplete` may become behind `args`, as a whole; only part of a word if the type of the
    item is part."""
    name = _PROGRAM
    if not args:
        yield from (CompletionItem(each, help=SUBCOMMANDS[each].help) for each in _starting(SUBCOMMANDS, incomplete))
    elif args[0] in SUBCOMMANDS:
        name, command, args = f"{name} {args[0]}", load(args[0]), args[1:]
    flag, equals, _ = incomplete.partition("=") if incomplete.startswith("--") else ("", "", "")
    for item in ShellComplete(command, {}, name, VARIABLE).get_completions(args, incomplete):
        if equals and item.type not in ("file", "dir"):
            item.value = flag + equals + item.value
        yield item


def _parse(line: str) -> _Typed:
    for quote in ("", '"', "'"):
        try:
            *words, last = shlex.split(f"{line}{_MARK}{quote}")
        except ValueError:  # a quote is open
            continue
        return _Typed(words[1:], last.removesuffix(_MARK), bool(quote))
    return _Typed([], "", False)


def _behind_break(value: str, incomplete: str, breaks: str) -> str:
    """Return what bash wants of a candidate: what follows the last character at which it breaks the word typed."""
    start = max((incomplete.rfind(each) for each in ":=" if each in breaks), default=-1) + 1
    return value[start:] if value.startswith(incomplete[:start]) else value


def _starting(values: Iterable[str], incomplete: str) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]


# What is completed


def applications(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete APP: applications as module:attribute, Python files and folders."""
    folder = str(ctx.params.get("app_dir") or "")
    module, colon, _ = incomplete.partition(":")
    if os.sep in incomplete:
        return _paths(incomplete)
    if colon:
        path = module_file(module, folder)
        found = [f"{module}:{name}" for name in applications_in(path)] if path is not None else []
        return [CompletionItem(value) for value in _starting(found, incomplete)]
    found = _starting(applications_below(Path(folder)), incomplete)
    return [CompletionItem(value) for value in found] or _paths(incomplete)


def _paths(incomplete: str) -> list[CompletionItem[str]]:
    start = incomplete.rpartition(os.sep)[2]
    before = incomplete.removesuffix(start)
    try:
        entries = sorted(Path(os.path.expanduser(before) or ".").iterdir())
    except OSError:
        return []
    hidden = ("__pycache__",) if start else (".", "__")
    entries = [each for each in entries if each.name.startswith(start) and not each.name.startswith(hidden)]
    items = [CompletionItem(before + each.name) for each in entries if each.suffix == ".py" and each.is_file()]
    return items + [CompletionItem(before + each.name + os.sep, type="part") for each in entries if each.is_dir()]


def topics(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete what --help can be about."""
    about = {ALL: "every option", **help_topics(), **{name: each.help for name, each in SUBCOMMANDS.items()}}
    return [CompletionItem(word, help=about[word]) for word in _starting(about, incomplete)]
