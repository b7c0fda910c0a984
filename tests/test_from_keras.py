"""Keras scripts and the scenarios made of them: their results agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run

from scripts.from_keras.compare import PAIRS, Pair, count_lines, run_scenario, run_script

CODE = '''
"""About."""

class A:  # a class
    """About A."""

    # comment
    x = [
        """text""",
    ]
'''


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_scenario_made_of_a_script_is_found(pair: Pair, quick_run: Run) -> None:
    done = quick_run("train-scenario", pair.scenario, "--show")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_scenario_has_the_result_of_the_script(pair: Pair, tmp_path: Path) -> None:
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    before = run_script(pair, 1, tmp_path / "before")
    after = run_scenario(pair, 1, tmp_path / "after")
    assert after.result == pytest.approx(before.result, abs=pair.tolerance)


def test_lines_of_code_are_counted_without_comments_blank_lines_and_docstrings() -> None:
    assert count_lines(CODE) == 4
