"""The checkpoints with the best monitored values (`--trainer.keep_best`), and resuming from a chosen one."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import Small, small

from tfaip_like import UsageError, train
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import read_history
from tfaip_like._training.checkpoint_export import export_checkpoint
from tfaip_like._training.checkpointing.checkpoints import Checkpoint, Position, list_checkpoints
from tfaip_like._training.selection.best_checkpoints import BestCheckpoints, RankedCheckpoint
from tfaip_like.settings import EarlyStopping, Resume


def ranking_of(best: BestCheckpoints, values: Sequence[float]) -> list[int]:
    """Return the epochs of the kept checkpoints, the best first."""
    for epoch, value in enumerate(values, 1):
        best = best.updated(RankedCheckpoint(Position(epoch, 0), epoch, value))
    return [position.epoch for position in best.positions]


@pytest.mark.parametrize(
    ("limit", "mode", "values", "expected"),
    [
        (0, "min", [1.0, 2.0], []),
        (2, "min", [3.0, 1.0, 2.0], [2, 3]),
        (2, "max", [3.0, 1.0, 2.0], [1, 3]),
        (2, "min", [1.0, 1.0, 1.0], [1, 2]),
        (2, "max", [math.nan, 1.0, math.nan], [2]),
        (3, "min", [math.inf, 1.0], [2, 1]),
    ],
)
def test_the_best_are_kept_and_the_earlier_of_equal_ones(
    limit: int, mode: Any, values: list[float], expected: list[int]
) -> None:
    assert ranking_of(BestCheckpoints(limit, mode), values) == expected


numbers = st.lists(st.one_of(st.just(math.nan), st.integers(0, 5).map(float)), max_size=12)


@given(st.integers(0, 5), st.sampled_from(["min", "max"]), numbers)
def test_the_kept_ones_are_the_first_in_order_of_their_values(limit: int, mode: Any, values: list[float]) -> None:
    finite = [(value if mode == "min" else -value, epoch) for epoch, value in enumerate(values, 1) if value == value]
    assert ranking_of(BestCheckpoints(limit, mode), values) == [epoch for _, epoch in sorted(finite)[:limit]]


def test_the_ranking_is_restored_from_the_checkpoints_that_exist() -> None:
    history = [{"epoch": epoch, "val_a": float(epoch), "val_b": -float(epoch)} for epoch in (0.5, 1, 1.5, 2)]
    checkpoints = [Checkpoint(Path(Position(*place).dir_name)) for place in ((0, 4), (1, 0), (1, 8), (2, 0))]
    best = BestCheckpoints(2, "max")
    kept = best.restored({}, checkpoints, history, "val_a", steps_per_epoch=8)
    assert kept.positions == [Position(2, 0), Position(1, 0)]  # step 8 of epoch 2 is before its evaluation
    assert best.restored({}, checkpoints, history, "val_b", 8).positions == [Position(0, 4), Position(1, 0)]
    # With other steps per epoch, the state names the rows of checkpoints within epochs.
    assert best.restored({}, checkpoints, history, "val_b", 4).positions == [Position(1, 0), Position(2, 0)]
    state = {Position(0, 4).dir_name: 0.5}
    assert best.restored(state, checkpoints, history, "val_b", 5).positions == [Position(0, 4), Position(1, 0)]


def keeping(folder: Path, **trainer: Any) -> Small:
    """Return a training whose validation loss falls: the best values are the highest ones, at the beginning."""
    trainer = {"keep_best": 2, "keep_checkpoints": 1, "val_every_n": "5steps", "sanity_check": False, **trainer}
    return small(folder, trainer=trainer, early_stopping=EarlyStopping(monitor="val_loss", mode="max"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a run with checkpoints of its first two validations, within the first epoch, and of its end."""
    run = tmp_path_factory.mktemp("best") / "run"
    train(keeping(run))
    return run


def positions_of(run: Path) -> list[Position]:
    return [checkpoint.position for checkpoint in list_checkpoints(OutputDir(run).checkpoints)]


def test_the_checkpoints_of_the_best_validations_are_kept(kept: Path) -> None:
    rows = [row for row in read_history(OutputDir(kept).history) if "val_loss" in row]
    best = sorted(rows, key=lambda row: -row["val_loss"])[:2]
    assert [row["step"] for row in best] == [5, 10]
    assert positions_of(kept) == [Position(0, 5), Position(0, 10), Position(3, 0)]


def test_a_run_is_resumed_from_a_kept_checkpoint_within_an_epoch(kept: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(kept, run)
    train(keeping(run), Resume(checkpoint=Path("epoch_0000_step_00010")))
    assert positions_of(run) == positions_of(kept)
    steps = [row["step"] for row in read_history(OutputDir(run).history)]
    assert steps == [5, 10, 12, 15, 20, 24, 25, 30, 35, 36]
    assert (run / "checkpoints" / "superseded" / "epoch_0003").is_dir()


def test_a_kept_checkpoint_is_exported_with_its_own_values(kept: Path, tmp_path: Path) -> None:
    checkpoint = list_checkpoints(OutputDir(kept).checkpoints)[0]
    export_checkpoint(checkpoint, tmp_path / "export")
    metrics = (tmp_path / "export" / "metrics.json").read_text()
    assert '"step": 5' in metrics


@pytest.mark.parametrize("name", ["epoch_0007", "elsewhere/epoch_0003"])
def test_a_checkpoint_that_does_not_exist_is_rejected(kept: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"no such checkpoint in .*epoch_0000_step_00005, epoch_0000_step_00010"):
        train(keeping(kept), Resume(checkpoint=Path(name)))
