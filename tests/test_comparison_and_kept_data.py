"""Comparison of a run to an earlier one, and the data that it used."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, slow
from runs import write_run
from small import Noise, Points, small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfaip_like import Mode, Sample, UsageError, train
from tfaip_like._training.selection.best_tracker import BestTracker
from tfaip_like._training.selection.comparison import RunComparison
from tfaip_like.data import RangeFilter, TrainLoaderSettings
from tfaip_like.params._tree import validate_params

TESTS = Path(__file__).parent
QUICK = {"sanity_check": False, "print_eval_limit": 0}


def history(*values: Mapping[str, float]) -> list[dict[str, float]]:
    return [{"epoch": epoch, "loss": 1.0 / epoch, "lr": 0.1, **more} for epoch, more in enumerate(values, 1)]


# Compare to an earlier run.


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a run of 3 epochs that was compared to one of 2, and what the latter had measured."""
    folder = tmp_path_factory.mktemp("compared")
    earlier = history({"val_loss": 0.5, "val_error": 0.4, "val_other": 7}, {"val_loss": 0.25, "val_error": 0.2})
    write_run(folder / "earlier", earlier)
    train(small(folder / "run", trainer={**QUICK, "compare_to": folder / "earlier"}))
    return folder / "run"


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_values_of_the_earlier_run_are_columns_of_the_history(compared: Path) -> None:
    assert [float(row["compare_loss"]) for row in rows(compared)] == [0.5, 0.25, 0.25]
    assert [float(row["compare_error"]) for row in rows(compared)] == [0.4, 0.2, 0.2]
    assert not {"compare_other", "compare_largest_error"} & set(rows(compared)[0])


def test_the_gain_is_positive_where_this_run_is_better(compared: Path) -> None:
    for row in rows(compared):
        assert float(row["compare_gain"]) == pytest.approx(float(row["compare_loss"]) - float(row["val_loss"]))
    assert "compare_gain" in (compared / "train.log").read_text()


def test_tensorboard_and_the_report_draw_them_next_to_those_of_validation(compared: Path) -> None:
    events = EventAccumulator(str(compared / "tensorboard/compare"))
    events.Reload()
    assert {"loss", "error", "gain"} == {tag for kind in ("tensors", "scalars") for tag in events.Tags()[kind]}
    assert "reference run" in (compared / "report.html").read_text()


def test_values_are_known_until_the_next_validation_and_after_the_end(tmp_path: Path) -> None:
    write_run(tmp_path / "run", history({"val_loss": 3}, {}, {"val_loss": 1}))
    comparison = RunComparison(tmp_path / "run", BestTracker("val_loss", "min"))
    found = [comparison.values({"epoch": epoch, "val_loss": 2.0}) for epoch in (1, 2, 3, 9)]
    assert [one["compare_loss"] for one in found] == [3, 3, 1, 1]
    assert [one["compare_gain"] for one in found] == [1, 1, -1, -1]


def test_without_validation_values_of_training_are_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "run", history({"accuracy": 0.5}))
    values = RunComparison(tmp_path / "run", BestTracker("accuracy", "max")).values(
        {"epoch": 1, "lr": 1, "accuracy": 0.75}
    )
    assert values == {"compare_accuracy": 0.5, "compare_gain": 0.25}


def test_a_reference_run_with_other_metrics_gives_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_run(tmp_path / "run", history({"val_f1": 0.5}))
    comparison = RunComparison(tmp_path / "run", BestTracker("val_accuracy", "max"))
    assert [comparison.values({"epoch": epoch, "val_accuracy": 1}) for epoch in (1, 2)] == [{}, {}]
    assert caplog.text.count("no metrics in common with this run") == 1


@pytest.mark.parametrize(
    ("place", "problem"),
    {
        "nowhere": "no such directory",
        "file": "not a directory; pass a run directory",
        "empty": "no run directory found in or below it",
        "runs": "contains several runs; choose one of them, such as .*runs/a$",
        "runs/a": r"the run has not completed an epoch yet \(no history.csv\)",
        "runs/b": ".*history.csv, line 2: missing; the file has no epochs",
    }.items(),
)
def test_an_invalid_reference_run_is_rejected_before_the_run_directory_is_created(
    place: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for name in ("empty", "runs/a", "runs/b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "runs/a/run.json").write_text('{"format_version": 1}')
    (tmp_path / "runs/b/history.csv").write_text("epoch,loss\n")
    with pytest.raises(UsageError, match=f"^Trainer.compare_to {tmp_path / place}.*{problem}"):
        train(small(tmp_path / "run", trainer={**QUICK, "compare_to": tmp_path / place}))
    assert not (tmp_path / "run").exists()


def test_missing_weights_are_rejected_before_the_run_directory_is_created(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^WarmStart.model {tmp_path}/nowhere: no such file or directory"):
        train(small(tmp_path / "run", warmstart={"model": tmp_path / "nowhere"}))
    assert not (tmp_path / "run").exists()


# The data as they are used.


class Numbered(Points):
    """With a number in the meta, and targets of two kinds."""

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        plain = super().source(mode)
        assert plain is not None
        return [Sample(one.inputs, one.targets, meta={"number": index}) for index, one in enumerate(plain)]


CHOSEN = TrainLoaderSettings(batch_size=8, filter=[RangeFilter(name="y", low=0.9, high=1.1)], num_processes=0)


@pytest.mark.parametrize("is_plain", [True, slow(False)])
def test_the_samples_of_the_first_epoch_are_kept_as_the_network_sees_them(is_plain: bool, tmp_path: Path) -> None:
    data = Points() if is_plain else Numbered(processors=[Noise()])
    scenario = small(tmp_path / "run", data=data, trainer={**QUICK, "epochs": 2, "keep_data": True}, train=CHOSEN)
    history = train(scenario).history
    with np.load(tmp_path / "run/used_data/train/samples.npz") as kept:
        x, y, index = kept["inputs/x"], kept["targets/y"], kept["index"]
    source = data.source(Mode.TRAIN)
    assert source is not None
    assert len(x) == len(y) == len(index) > 0
    assert ((y >= 0.9) & (y <= 1.1)).all()
    for row, number in enumerate(index):
        sample = source[int(number)]
        assert y[row] == np.float32(sample.targets["y"])
        assert (x[row] == sample.inputs["x"]).all() == is_plain
    with np.load(tmp_path / "run/used_data/val/samples.npz") as kept:
        assert len(kept["inputs/x"]) == 100
    shown = {file.name for file in (tmp_path / "run/summaries/data_train").iterdir()}
    assert shown == {"input_x_0.json", "input_x_1.json", "target_y.json"}
    counts = json.loads((tmp_path / "run/summaries/data_train/target_y.json").read_text())["counts"]
    assert sum(counts) == len(y)
    assert "data of the first epoch" in (tmp_path / "run/report.html").read_text()
    again = train(small(data=data, trainer={**QUICK, "epochs": 2}, train=CHOSEN)).history
    assert [row["loss"] for row in history] == [row["loss"] for row in again]


@pytest.mark.slow
def test_samples_of_different_shapes_are_kept_as_lines(tmp_path: Path) -> None:
    from test_lav import Sequences, Sums

    scenario = small(
        tmp_path / "run",
        data=Sequences(),
        model=Sums(),
        evaluator=None,
        trainer={**QUICK, "epochs": 1, "keep_data": True},
        train={"batch_size": 4},
    )
    train(scenario)
    lines = [json.loads(line) for line in (tmp_path / "run/used_data/train/samples.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    assert {len(line["inputs"]["x"]) for line in lines} <= set(range(1, 8))
    assert {"index", "length"} == set(lines[0]["meta"])


@pytest.mark.slow
def test_resuming_keeps_the_data_of_the_first_epoch(tmp_path: Path, quick_run: Run) -> None:
    train(small(tmp_path / "run", trainer={**QUICK, "epochs": 1, "keep_data": True}))
    kept = tmp_path / "run/used_data/train/samples.npz"
    before = kept.stat().st_mtime_ns
    done = quick_run("resume-training", tmp_path / "run", "--trainer.epochs", 2, cwd=TESTS)
    assert done.returncode == 0, done.stderr
    assert kept.stat().st_mtime_ns == before


def test_keep_data_requires_an_output_directory() -> None:
    with pytest.raises(UsageError, match="--trainer.keep_data.* requires --trainer.output_dir"):
        validate_params(small(trainer={"keep_data": True}))
