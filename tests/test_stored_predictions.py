"""Predictions that were stored are judged later, as they were when they were made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from small import Largest, small

from tfaip_like import Evaluator, Sample, UsageError, Writer, train
from tfaip_like._cli.evaluate_predictions import evaluate_predictions
from tfaip_like.data._writers import JsonLines, Npz, open_writer, to_jsonable
from tfaip_like.inference._stored_predictions import read_predictions, to_array
from tfaip_like.summaries import Summary, Text

TESTS = Path(__file__).parent


class Shows(Largest):
    """Also shows something."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:  # type: ignore[override]
        return {**super().evaluate(samples), "text": Text("errors")}


class OfInputs(Evaluator):
    """Needs what is not stored."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        return {"sum": sum(float(sample.inputs["x"][0]) for sample in samples)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("stored") / "run"
    train(small(run, trainer={"epochs": 1, "sanity_check": False}, evaluator=Shows()))
    return run


@pytest.fixture(scope="module")
def dumped(trained: Path, quick_run: Run) -> Path:
    """Provide what lav-scenario stored, as arrays and as lines, and what it found."""
    folder = trained.parent
    for name in ("dump.npz", "dump.jsonl"):
        done = quick_run(
            *("lav-scenario", trained, "--dump", folder / name, "--json", folder / "lav.json"),
            *("--summaries", folder / "shown"),
            cwd=TESTS,
        )
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_evaluator_finds_what_it_found_before(
    trained: Path, dumped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(dumped / "dump.npz"), str(dumped / "dump.jsonl")]
    evaluate_predictions([str(trained), *files, "--json", str(tmp_path / "found.json")])
    (before,) = json.loads((dumped / "lav.json").read_text())
    expected = {name: before["values"][name] for name in ("largest_error", "count")}
    for result, file in zip(json.loads((tmp_path / "found.json").read_text()), files, strict=True):
        assert (result["export"], result["values"]) == (file, expected)
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "largest_error"


def test_a_scenario_by_its_name_and_another_evaluator(dumped: Path, tmp_path: Path) -> None:
    words = ["small:Small", str(dumped / "dump.npz"), "--json", str(tmp_path / "found.json")]
    evaluate_predictions([*words, "--evaluator", f"{__name__}:Shows", "--summaries", str(tmp_path / "shown")])
    assert json.loads((tmp_path / "found.json").read_text())[0]["values"]["count"] == 100
    assert (tmp_path / "shown/text.md").read_text() == (dumped / "shown/text.md").read_text() == "errors"


def test_predictions_without_what_an_evaluator_needs_are_explained(trained: Path, dumped: Path, tmp_path: Path) -> None:
    (tmp_path / "predicted.jsonl").write_text('{"outputs": {"sum": 1.5}, "meta": {"index": 0}}\n')
    with pytest.raises(UsageError, match="predicted.jsonl: the evaluator needs the target 'y' of shape") as found:
        evaluate_predictions([str(trained), str(tmp_path / "predicted.jsonl")])
    assert "(inputs: none; targets: none; outputs: sum).\nlav-scenario --dump stores targets" in str(found.value)
    with pytest.raises(UsageError, match="dump.npz: the evaluator needs 'x', missing in this file"):
        evaluate_predictions([str(trained), str(dumped / "dump.npz"), "--evaluator", f"{__name__}:OfInputs"])


def test_results_are_printed_if_some_files_cannot_be_evaluated(
    trained: Path, dumped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(dumped / "dump.npz") as saved:
        arrays = dict(saved)
    np.savez(tmp_path / "wide.npz", **{**arrays, "sum": np.zeros((100, 3))})
    np.savez(tmp_path / "other.npz", **{"other" if name == "sum" else name: array for name, array in arrays.items()})
    good = str(dumped / "dump.npz")
    files = [good, str(tmp_path / "wide.npz"), str(tmp_path / "other.npz"), good]
    with pytest.raises(UsageError) as found:
        evaluate_predictions([str(trained), *files, "--json", str(tmp_path / "found.json")])
    assert "wide.npz: sample 0: output 'sum' has shape (3,), expected ()" in str(found.value)
    assert "other.npz: the evaluator needs the output 'sum' of shape (), missing in this file" in str(found.value)
    assert [result["export"] for result in json.loads((tmp_path / "found.json").read_text())] == [good, good]
    assert capsys.readouterr().out.split()[:3] == [good, good, "largest_error"]


def test_results_are_printed_if_some_exports_cannot_be_validated(trained: Path, tmp_path: Path, quick_run: Run) -> None:
    shutil.copytree(trained / "best", tmp_path / "broken")
    (tmp_path / "broken/serve/saved_model.pb").write_bytes(b"no graph")
    done = quick_run("lav-scenario", tmp_path / "broken", trained, "--worst", "0", cwd=TESTS)
    assert done.returncode == 2
    assert "broken/serve/saved_model.pb: incomplete or corrupt" in done.stderr
    assert "largest_error" in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "not a file of predictions; expected a .jsonl or .npz file"),
        ("a.jsonl", "", "contains no predictions"),
        ("a.jsonl", "[1]", "line 1: expected an object with outputs"),
        ("a.jsonl", '{"outputs": 2}', "line 1: outputs: expected an object"),
        ("a.jsonl", '{"outputs": {"y": }', "line 1"),
        ("a.npz", "no archive", "a.npz: cannot be read as .npz: truncated file or unsupported format$"),
        ("a.npz", "PK\x03\x04", "a.npz: cannot be read as .npz: truncated or damaged file$"),
        ("", "", "is a directory; expected a .jsonl or .npz file"),
    ],
)
def test_files_that_hold_no_predictions_are_rejected(name: str, content: str, message: str, tmp_path: Path) -> None:
    if name:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        evaluate_predictions(["small:Small", str(tmp_path / name)])


@pytest.mark.parametrize("index", [[0.0, np.nan, np.inf], ["a", "b", "c"], [[0, 1], [2, 3], [4, 5]]])
def test_indices_that_are_not_integers_are_rejected(index: list[object], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", sum=np.zeros(3), index=np.array(index))
    with pytest.raises(UsageError, match="a.npz: index: expected an integer per sample"):
        list(read_predictions(tmp_path / "a.npz"))


def test_arrays_of_different_lengths_are_rejected(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", sum=np.zeros(3), index=np.zeros(2))
    with pytest.raises(UsageError, match="needs one row per sample; number of rows: sum: 3, index: 2"):
        list(read_predictions(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/nothing", "a.npz"], "runs/nothing: no such run, export or scenario"),
        (["a.npz", "runs/one"], "a.npz: is a predictions file. usage: "),
    ],
)
def test_the_scenario_must_come_first_and_be_there(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate_predictions(words)


@pytest.mark.parametrize("words", [[], ["small:Small"]])
def test_the_files_must_be_named(words: list[str]) -> None:
    with pytest.raises(UsageError, match="missing argument .* usage: evaluate-predictions"):
        evaluate_predictions(words)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none.npz: no such file"):
        evaluate_predictions(["small:Small", str(tmp_path / "none.npz")])


@pytest.mark.parametrize("writer", [JsonLines(inputs=True), Npz(inputs=True)], ids=["lines", "arrays"])
def test_inputs_are_stored_on_request(writer: Writer, tmp_path: Path) -> None:
    file = tmp_path / f"stored{'.npz' if isinstance(writer, Npz) else '.jsonl'}"
    samples = [Sample({"x": np.full(2, number, "float32")}, {"y": number}, {"sum": 2.5}) for number in range(3)]
    with open_writer(file, writer, "--output") as write:
        for sample in samples:
            write(sample)
    for sample, found in zip(samples, read_predictions(file), strict=True):
        np.testing.assert_array_equal(found.inputs["x"], sample.inputs["x"])
        assert (found.targets["y"], found.outputs["sum"]) == (sample.targets["y"], 2.5)


def test_an_evaluator_sees_the_inputs_that_lav_has_stored(trained: Path, quick_run: Run, tmp_path: Path) -> None:
    done = quick_run("lav-scenario", trained, "--dump", tmp_path / "dump.npz", "--dump_inputs", "true", cwd=TESTS)
    assert done.returncode == 0, done.stderr
    words = [str(trained), str(tmp_path / "dump.npz"), "--evaluator", f"{__name__}:OfInputs"]
    evaluate_predictions([*words, "--json", str(tmp_path / "found.json")])
    assert json.loads((tmp_path / "found.json").read_text())[0]["values"]["sum"] > 0


NUMBERS = st.sampled_from([np.float32, np.int32, np.uint8, np.bool_]).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4))
)


@given(NUMBERS)
def test_numbers_come_back_as_they_were(value: Any) -> None:
    back = to_array(json.loads(json.dumps(to_jsonable(value))))
    np.testing.assert_array_equal(back, value)
    assert np.asarray(back).dtype == (np.int64 if value.dtype.kind in "iu" else value.dtype)


@given(st.recursive(st.text(), lambda part: st.lists(part, max_size=3), max_leaves=5))
def test_texts_come_back_as_they_were(value: Any) -> None:
    back = to_array(json.loads(json.dumps(value)))
    if "nan" not in str(value) and "inf" not in str(value) and str(value).strip("[], "):
        assert back == value


def test_all_that_a_writer_writes_is_read(tmp_path: Path) -> None:
    samples = [
        Sample(outputs={"y": np.float32([0.1, np.nan]), "text": "a b"}, targets={"t": 3}, meta={"index": 7}),
        Sample(outputs={"y": np.float32([0.2, 5]), "text": "c"}, targets={"t": 4}, meta={"index": 9, "file": "x"}),
    ]
    with open_writer(tmp_path / "y.jsonl", None, "--output") as write:
        for sample in samples:
            write(sample)
    for sample, back in zip(samples, read_predictions(tmp_path / "y.jsonl"), strict=True):
        np.testing.assert_array_equal(back.outputs["y"], sample.outputs["y"])
        assert back.outputs["y"].dtype == np.float32
        assert (back.outputs["text"], back.targets, back.meta) == (sample.outputs["text"], sample.targets, sample.meta)
