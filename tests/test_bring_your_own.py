"""Examples of docs/how-to/bring-your-own.md whose library is not installed everywhere."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from tfaip_like import train
from tfaip_like.settings import Trainer

PAGE = (REPOSITORY / "docs" / "how-to" / "bring-your-own.md").read_text()
LISTINGS = dict(re.findall(r"^```(?:text|python) (\w+)\.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
LIBRARIES = {
    "torch_dataset": "torch.utils.data",
    "torch_stream": "torch.utils.data",
    "hugging_face": "datasets",
    "grain_dataset": "grain",
    "zarr_arrays": "zarr",
    "polars_frame": "polars",
    "py_dataset": "keras",
    "memory_map": "numpy",
}


def test_all_examples_that_no_other_test_runs_are_run_here() -> None:
    assert set(re.findall(r"^```text (\w+)\.py$", PAGE, re.MULTILINE)) == set(LIBRARIES)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIBRARIES)
def test_an_example_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(LIBRARIES[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    imports = f"import numpy as np\nimport {LIBRARIES[name]}\nfrom digits import X, Y, Digits\n"
    (tmp_path / "digits.py").write_text(LISTINGS["digits"])
    (tmp_path / f"example_{name}.py").write_text(imports + LISTINGS[name])
    monkeypatch.delitem(sys.modules, "digits", raising=False)
    example, digits = importlib.import_module(f"example_{name}"), importlib.import_module("digits")
    data = next(value for key, value in vars(example).items() if key.startswith("Of"))
    scenario = dataclasses.replace(digits.Classification(), data=data())
    trainer = Trainer(epochs=1, samples_per_epoch=1200, sanity_check=False)
    assert len(train(dataclasses.replace(scenario, trainer=trainer)).history) == 1


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_example_has_at_most_15_lines(name: str) -> None:
    assert len(LISTINGS[name].splitlines()) <= 15
