"""Commands as functions: training results, evaluation, prediction, benchmark and runs from Python and notebooks."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, Run
from small import Line, Points, Small, small

from tfaip_like import Scenario, UsageError, benchmark, evaluate, predict, train
from tfaip_like._training.result import TrainResult
from tfaip_like.settings import Resume


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(small(tmp_path_factory.mktemp("trained") / "run", trainer={"epochs": 2}))


def run_of(result: TrainResult) -> Path:
    assert result.output_dir is not None
    return result.output_dir


def test_the_result_has_a_frame_and_the_predictors_of_both_models(trained: TrainResult) -> None:
    pytest.importorskip("pandas")
    frame = trained.to_frame()
    assert list(frame["epoch"]) == [1, 2]
    assert frame["val_loss"].min() == trained.best_value
    x = np.random.default_rng(0).random((4, 2), dtype="float32")
    expected = trained.network({"x": x})["sum"]
    assert np.allclose(trained.last_predictor().outputs({"x": x})["sum"], expected, atol=1e-6)
    assert trained.best_predictor().exports[0].metrics["epoch"] == trained.best_epoch


def test_a_result_without_a_run_directory_has_no_predictors() -> None:
    result = TrainResult([{"epoch": 1.0}], None, None, network=None)  # type: ignore[arg-type]
    for load in (result.best_predictor, result.last_predictor):
        with pytest.raises(UsageError, match=r"train with Trainer\.output_dir"):
            load()


def test_the_scenario_of_a_run_has_its_parameters(trained: TrainResult, tmp_path: Path) -> None:
    run = run_of(trained)
    for place in (run, run / "best", run / "checkpoints" / "epoch_0001"):
        scenario = Scenario.from_run(place)
        assert isinstance(scenario, Small)
        assert scenario.trainer.random_seed == 7
        assert scenario.trainer.epochs == 2
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    assert Small.from_run(str(moved)).trainer.output_dir == moved


def test_the_scenario_of_a_run_must_be_of_the_class(trained: TrainResult) -> None:
    class Other(Scenario):
        data: Points = Points()
        model: Line = Line()

    with pytest.raises(UsageError, match="trained with Small, not Other"):
        Other.from_run(run_of(trained))
    with pytest.raises(UsageError, match="no such directory"):
        Scenario.from_run("missing")


def test_a_run_is_continued_from_its_directory(trained: TrainResult, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(run_of(trained), tmp_path / "run"))
    scenario = Scenario.from_run(moved)
    longer = dataclasses.replace(scenario, trainer=dataclasses.replace(scenario.trainer, epochs=3))
    result = train(longer, Resume())
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert result.history[:2] == trained.history


def test_evaluation_gives_the_values_of_the_command(trained: TrainResult, quick_run: Run, tmp_path: Path) -> None:
    run = run_of(trained)
    (result,) = evaluate(run, worst=3)
    done = quick_run("lav-scenario", run, "--worst", 3, "--json", tmp_path / "values.json")
    assert done.returncode == 0, done.stderr
    (printed,) = json.loads((tmp_path / "values.json").read_text())
    assert result.metrics == pytest.approx(printed["values"])
    assert [sample for _, sample in result.worst] == [each["sample"] for each in printed["worst"]]
    assert result.epoch == printed["epoch"] == trained.best_epoch
    row = trained.history[int(trained.best_epoch or 0) - 1]
    assert result.metrics["loss"] == pytest.approx(row["val_loss"], rel=1e-5)


def test_other_data_and_checkpoints_can_be_evaluated(trained: TrainResult) -> None:
    (fewer,) = evaluate(run_of(trained) / "checkpoints" / "epoch_0001", data=Points(samples=40))
    assert fewer.metrics["count"] == 40
    assert fewer.epoch == 1
    with pytest.raises(UsageError, match="no such directory"):
        evaluate("missing")


def test_predictions_are_returned_and_written(trained: TrainResult, quick_run: Run, tmp_path: Path) -> None:
    run = run_of(trained)
    x = np.random.default_rng(0).random((5, 2), dtype="float32")
    samples = predict(run, samples={"x": x}, output=tmp_path / "samples.jsonl")
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 5
    expected = trained.best_predictor().outputs({"x": x})["sum"]
    assert np.allclose([sample.outputs["sum"] for sample in samples], expected)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"x": row.tolist()}) + "\n" for row in x))
    predict(run, files=[tmp_path / "in.jsonl"], output=tmp_path / "files.jsonl")
    done = quick_run(
        "predict-scenario", run, "--predict.files", tmp_path / "in.jsonl", "--output", tmp_path / "of.jsonl"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "files.jsonl").read_text() == (tmp_path / "of.jsonl").read_text()


def test_an_ensemble_with_a_checkpoint_is_predicted(trained: TrainResult) -> None:
    run = run_of(trained)
    x = np.ones((2, 2), "float32")
    members = [run / "best", run / "checkpoints" / "epoch_0001"]
    voted = [sample.outputs["sum"] for sample in predict(*members, samples={"x": x})]
    single = [[sample.outputs["sum"] for sample in predict(member, samples={"x": x})] for member in members]
    assert np.allclose(voted, np.mean(single, axis=0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": [], "files": ["a.jsonl"]}, "pass one of them"),
        ({"files": ["missing.jsonl"]}, "missing.jsonl"),
        ({"samples": [{"y": 1.0}]}, "'x'"),
    ],
)
def test_a_wrong_prediction_is_an_error(trained: TrainResult, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        predict(run_of(trained), **arguments)


def test_a_prediction_without_an_export_is_an_error() -> None:
    with pytest.raises(UsageError, match="missing export"):
        predict()


def test_the_benchmark_returns_its_measurement_and_its_report() -> None:
    result = benchmark(small(train={"num_processes": 0}), seconds=0.2, warmup_seconds=0)
    assert result.samples_per_second > 0
    assert str(result).startswith("Small, --train: 100 samples, batch size 8")
    assert "verdict" in result.report
    with pytest.raises(UsageError, match="must be above 0"):
        benchmark(small(), seconds=0)


NOTEBOOK = """
import sys
sys.path[:0] = [{tests!r}, {repository!r}]
from small import small
from tfaip_like import train
result = train(small(trainer={{"epochs": 3}}))
"""


@pytest.mark.slow
def test_a_notebook_shows_one_image_that_follows_the_training() -> None:
    manager = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    kernel, client = manager.start_new_kernel(kernel_name="python3", extra_arguments=[])
    try:
        messages: list[tuple[str, dict[str, Any]]] = []

        def record(message: dict[str, Any]) -> None:
            messages.append((message["msg_type"], message["content"]))

        code = NOTEBOOK.format(tests=str(Path(__file__).parent), repository=str(REPOSITORY))
        reply = client.execute_interactive(code, timeout=250, output_hook=record)
        assert reply["content"]["status"] == "ok", messages
        shown = [(kind, content) for kind, content in messages if "image/png" in content.get("data", {})]
        assert [kind for kind, _ in shown] == ["display_data", "update_display_data", "update_display_data"]
        assert len({content["transient"]["display_id"] for _, content in shown}) == 1
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def test_curves_are_drawn_for_losses_and_metrics_with_gaps() -> None:
    pytest.importorskip("matplotlib")
    from tfaip_like._training.live_curve import draw_curves

    rows = [
        {"epoch": 1.0, "loss": float("nan"), "val_loss": 2.0},
        {"epoch": 2.0, "loss": 1.0, "val_loss": 1.5, "lr": 0.1},
    ]
    assert draw_curves(rows).startswith(b"\x89PNG")
    assert sys.modules.get("matplotlib.pyplot") is None or "matplotlib.figure" in sys.modules
