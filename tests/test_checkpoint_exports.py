"""The model of any kept epoch: predicted with and validated from its checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, slow
from small import small

from tfaip_like import Mode, UsageError, load_predictor, train
from tfaip_like._commands.named_exports import without_superseded
from tfaip_like._export.exported_model import load_export
from tfaip_like._training.checkpoint_export import export_checkpoint
from tfaip_like._training.checkpointing.checkpoints import Checkpoint, CheckpointData, Position, write_checkpoint
from tfaip_like.optimizers import ScheduleFreeAdamW

TESTS = Path(__file__).parent
KEPT = {"keep_every_n": 1, "epochs": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a run with averaged weights and frozen layers that kept all its checkpoints."""
    run = tmp_path_factory.mktemp("kept") / "run"
    train(small(run, trainer={**KEPT, "calc_ema": 0.9, "no_train_scope": "hidden"}))
    return run


def history(run: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((run / "checkpoints/epoch_0003/state.json").read_text())["history"]
    return rows


@pytest.mark.slow
def test_lav_of_each_checkpoint_gives_the_values_of_its_epoch(trained: Path, tmp_path: Path, quick_run: Run) -> None:
    checkpoints = [trained / f"checkpoints/epoch_000{epoch}" for epoch in (1, 2, 3)]
    done = quick_run("lav-scenario", *checkpoints, "--json", tmp_path / "lav.json", cwd=TESTS)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "lav.json").read_text())
    assert [result["export"] for result in results] == [str(checkpoint) for checkpoint in checkpoints]
    assert [result["epoch"] for result in results] == [1, 2, 3]
    for result, row in zip(results, history(trained), strict=True):
        for name, value in result["values"].items():
            assert value == pytest.approx(row[f"val_{name}"], rel=1e-5), name
    assert "retracing" not in done.stderr


@pytest.mark.slow
def test_the_last_checkpoint_predicts_as_the_last_export(trained: Path, tmp_path: Path, quick_run: Run) -> None:
    for name, path in (("export", trained / "export"), ("checkpoint", trained / "checkpoints/epoch_0003")):
        done = quick_run("predict-scenario", path, "--output", tmp_path / f"{name}.npz", cwd=TESTS)
        assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "export.npz") as expected, np.load(tmp_path / "checkpoint.npz") as found:
        np.testing.assert_array_equal(found["sum"], expected["sum"])


@pytest.mark.slow
def test_a_checkpoint_votes_with_an_export(trained: Path, quick_run: Run) -> None:
    done = quick_run("predict-scenario", trained, trained / "checkpoints/epoch_0001", "--predict.limit", 1, cwd=TESTS)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    timed = [line.split(":")[0].strip() for line in done.stderr.splitlines() if "MB of weights" in line]
    assert timed == [str(trained / "best"), str(trained / "checkpoints/epoch_0001")]


@pytest.mark.parametrize("command", ["lav-scenario", "predict-scenario"])
@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("checkpoints/epoch_0009", "no such checkpoint; available: epoch_0001, epoch_0002, epoch_0003"),
        ("checkpoints", "contains 3 checkpoints; specify one, such as"),
    ],
)
def test_a_missing_checkpoint_is_reported_with_the_available_ones(
    command: str, folder: str, message: str, trained: Path, quick_run: Run
) -> None:
    done = quick_run(command, trained / folder, cwd=TESTS)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{command}: {trained / folder}: {message}")


def test_all_checkpoints_of_a_run_do_not_include_its_superseded_ones(trained: Path, tmp_path: Path) -> None:
    checkpoints = [tmp_path / "epoch_0001", tmp_path / "superseded_2"]
    for path in (checkpoints[0], checkpoints[1] / "epoch_0002"):
        shutil.copytree(trained / "checkpoints/epoch_0001", path)
    assert without_superseded(sorted(tmp_path.iterdir())) == checkpoints[:1]
    assert without_superseded(checkpoints[1:]) == checkpoints[1:]  # asked for on its own: an error says what to choose


def test_load_predictor_explains_that_a_checkpoint_is_not_an_export(trained: Path) -> None:
    with pytest.raises(UsageError, match=r"epoch_0001: is a checkpoint, not an export; .*export_checkpoint"):
        load_predictor(trained / "checkpoints/epoch_0001")


def test_a_damaged_checkpoint_is_rejected_by_its_file(trained: Path, tmp_path: Path, quick_run: Run) -> None:
    shutil.copytree(trained, tmp_path / "run")
    damaged = tmp_path / "run/checkpoints/epoch_0002/variables.npz"
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"123456789")
    done = quick_run("lav-scenario", damaged.parent, cwd=TESTS)
    assert done.returncode == 2
    assert "variables.npz: checksum mismatch" in done.stderr


def test_another_network_than_the_checkpoint_is_rejected(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    checkpoint = tmp_path / "run/checkpoints/epoch_0001"
    content = Checkpoint(checkpoint).read()
    arrays = {name: array[:1] if name.endswith("hidden/kernel") else array for name, array in content.arrays.items()}
    changed = write_checkpoint(
        tmp_path / "run/checkpoints", Position(1, 0), CheckpointData(arrays, content.state, content.params)
    )
    with pytest.raises(UsageError, match=r"epoch_0001: checkpoint mismatch: hidden/kernel"):
        export_checkpoint(changed, tmp_path / "export")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(
    "changes",
    [
        slow({"optimizer": ScheduleFreeAdamW()}),
        slow({"trainer": {**KEPT, "calc_ema": -1.0, "precision": "mixed_float16"}}),
        slow({"trainer": {**KEPT, "calc_ema": 0.5, "precision": "mixed_bfloat16", "accumulate_steps": 2}}),
    ],
)
def test_the_export_of_the_last_checkpoint_is_that_of_the_run(changes: dict[str, Any], tmp_path: Path) -> None:
    scenario = small(tmp_path / "run", **{"trainer": KEPT, **changes})
    train(scenario)
    export_checkpoint(Checkpoint(tmp_path / "run/checkpoints/epoch_0003"), tmp_path / "export")
    source = scenario.data.source(Mode.EVALUATE)
    outputs = [load_export(path)(source.inputs)["sum"] for path in (tmp_path / "export", tmp_path / "run/export")]  # type: ignore[union-attr]
    np.testing.assert_array_equal(*outputs)
