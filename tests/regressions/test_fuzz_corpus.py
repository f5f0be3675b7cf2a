"""The inputs that fuzzing keeps (compliance/fuzz): each holds at both speeds, and both see the same."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance.fuzz import corpus, report, targets
from compliance.fuzz.__main__ import plan
from compliance.fuzz.environment import variables
from compliance.fuzz.findings import Broken, apart, require
from compliance.fuzz.minimize import added
from compliance.fuzz.pieces import cut, same_in_pieces
from compliance.fuzz.slices import Slice
from compliance.fuzz.speeds import Other, outcome
from flowserve.compiled import is_compiled


@pytest.fixture(scope="module")
def other() -> Iterator[Other]:
    """A process at the speed that this one does not have; where nothing is compiled, both are plain."""
    process = Other(variables(None, pure=is_compiled()))
    yield process
    process.close()


@pytest.mark.parametrize("name", targets.names())
def test_every_kept_input_holds_and_both_speeds_see_the_same(name: str, other: Other) -> None:
    inputs = corpus.committed(name)
    assert inputs
    target = targets.load(name)
    for data in inputs:
        seen = outcome(target.observe, data)
        assert seen[0] == "saw", f"{data!r}: {seen[1][1]}"
        assert other.differs(name, data, seen) is None, data


def test_there_are_no_inputs_of_targets_that_are_gone() -> None:
    kept = {path.stem for folder in (corpus.CORPUS, corpus.FAILED) for path in folder.glob("*.txt")}
    assert kept <= set(targets.names())


def test_the_corpus_stays_small() -> None:
    files = [path for folder in (corpus.CORPUS, corpus.FAILED) for path in folder.glob("*.txt")]
    assert sum(path.stat().st_size for path in files) < 600_000


@pytest.mark.parametrize("name", targets.names())
def test_a_target_says_what_must_hold(name: str) -> None:
    assert "\n- " in targets.load(name).about


def test_an_input_that_ends_the_other_process_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Other({**os.environ, "PYTHONPATH": os.devnull})  # where the module is not to be found
    monkeypatch.chdir(os.sep)
    with pytest.raises(Broken, match="ended with status 1"):
        process.differs("uri", b"ws://a/", ("saw", None))


def test_what_the_other_process_sees_otherwise_is_told(other: Other) -> None:
    seen = outcome(targets.load("authorization").observe, b"Basic dTpw")
    assert seen == ("saw", ("u", "p"))
    assert other.differs("authorization", b"Basic dTpw", seen) is None
    assert other.differs("authorization", b"Basic dTpw", ("saw", ["u", "p"])) == seen


def test_a_parser_that_depends_on_the_cuts_is_found() -> None:
    with pytest.raises(Broken, match="in pieces"):
        same_in_pieces(len, b"ab", 0)


def test_all_cuts_are_the_stream() -> None:
    for seed in range(256):
        data = random.Random(seed).randbytes(seed * 20)
        pieces = cut(data, seed)
        assert b"".join(pieces) == data, seed
        assert all(pieces), seed


def test_what_is_known_to_depend_on_the_cuts_is_left_out() -> None:
    assert same_in_pieces(len, b"ab", 0, lambda count: 0) == 1


def test_what_is_broken_and_what_is_raised_are_told_apart() -> None:
    def broken(data: bytes) -> None:
        require(not data, "there is data", data)

    assert outcome(broken, b"") == ("saw", None)
    assert outcome(broken, b"x") == ("found", ("there is data", "there is data\n  b'x'"))
    kind, text = outcome(lambda data: data[9], b"x")[1]
    assert kind.startswith("IndexError in ")
    assert text.startswith("Traceback")


def test_what_differs_late_is_shown() -> None:
    one, other = ("saw", ["a" * 1000, 1]), ("saw", ["a" * 1000, 2])
    assert str(Broken("differ", *apart(one, other))).count("a") < 100
    assert [text[-5:] for text in apart(one, other)] == [", 1])", ", 2])"]
    assert apart([1], "x") == ("[1]", "'x'")


def test_results_add_up() -> None:
    rows = report.added([Slice("uri", executions=1, cpu=2.0, compared=3, edges=40, features=5, inputs=6)])
    rows = report.added([Slice("uri", executions=10, cpu=0.5, compared=1, edges=39, features=7, inputs=6)], rows)
    row = {"executions": 11, "cpu": 2.5, "compared": 4, "edges": 40, "features": 7, "inputs": 6}
    assert rows == {"uri": row}
    assert "| uri | 11 | 0.001 | 4 | 40 | 7 | 6 |" in report.table(rows)


def test_time_is_shared_in_rounds() -> None:
    assert plan(["a", "b"], 100.0) == [("a", 50.0), ("b", 50.0)]
    assert plan(["a", "b"], 1800.0) == [("a", 300.0), ("b", 300.0)] * 3


def test_what_covers_more_is_kept() -> None:
    observe = targets.load("authorization").observe
    kept, longer, other = b"Basic dTpw", b"Basic dTpwdTpw", b"Basic ="
    assert added(observe, [kept], [longer, other]) == [other]


def test_inputs_are_kept_as_lines_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "FAILED", tmp_path)
    assert corpus.add_failed("uri", b"\x00\n#", "why \u20ac")
    assert not corpus.add_failed("uri", b"\x00\n#", "again")
    assert (tmp_path / "uri.txt").read_text() == "# why \\u20ac\nb'\\x00\\n#'\n"
    assert corpus.read(tmp_path / "uri.txt") == [b"\x00\n#"]
