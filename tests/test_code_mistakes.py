"""Each mistake in network, data, loss, evaluator or packaging is answered with the author's own line first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from code_mistakes import AREAS, GOOD, Mistake
from conftest import Run, slow

MAX_LINES = 7
"""The place, the line, and a reason with a hint and the sample."""
BY_DEFAULT = 4
"""One of this many runs without --slow."""


def cases() -> Iterator[ParameterSet]:
    for area, mistakes in AREAS.items():
        for number, (name, mistake) in enumerate(mistakes.items()):
            case = pytest.param(mistake) if number % BY_DEFAULT == 0 else slow(mistake)
            yield pytest.param(*case.values, marks=case.marks, id=f"{area}: {name}")


def test_mistakes_cover_every_area() -> None:
    assert {area: len(mistakes) >= 12 for area, mistakes in AREAS.items()} == dict.fromkeys(AREAS, True)
    assert sum(map(len, AREAS.values())) >= 350


@pytest.mark.parametrize("mistake", list(cases()))
def test_a_mistake_in_the_code_shows_its_line_and_the_reason(mistake: Mistake, quick_run: Run, tmp_path: Path) -> None:
    text = GOOD
    for old, new in mistake.changes.items():
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "my.py"
    file.write_text(text)
    done = quick_run("train-scenario", "my.py", "--trainer.epochs", 1, *mistake.flags.split(), cwd=tmp_path)
    assert done.returncode in (1, 2)
    begin = done.stderr.index("train-scenario: ")
    place, *reported = done.stderr[begin:].removeprefix("train-scenario: ").rstrip("\n").splitlines()
    assert place.startswith(str(file))
    if mistake.line:
        number = int(place.split(", line ")[1].split(",")[0])
        assert text.splitlines()[number - 1].strip() == reported[0].strip() == mistake.line
    reason = "\n".join(reported[1 if mistake.line else 0 :])
    assert reason.startswith(mistake.reason)
    assert "Traceback" not in done.stderr
    assert "report it" not in done.stderr
    assert "__autograph" not in done.stderr
    assert len(reported) < MAX_LINES
