"""The best network of each expert of a batch, gathered in one folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batches import experiments, make_fake_batch

from tfaip_like import UsageError
from tfaip_like._export.layout import EXPERTS_FORMAT
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._gather import gather

PLAN = """\
  parts:
    trainer.epochs: 1
    experts: [1, 2]
    repeat: 2
  alone:
    trainer.epochs: 1
"""


def write_finished_run(batch: Batch, name: str, value: float, mode: str = "min") -> None:
    """Write the files of a finished run with this best value."""
    folder = batch.run_dir(name)
    folder.best.mkdir(parents=True)
    (folder.best / "name").write_text(name)
    folder.run.write_text(
        json.dumps({"format_version": 1, "status": "done", "best_by": {"monitor": "val_loss", "mode": mode}})
    )
    folder.history.write_text(f"epoch,val_loss\n1,{value}\n")


@pytest.mark.parametrize(("mode", "of_first"), [("min", "parts.expert_1.02"), ("max", "parts.expert_1.01")])
def test_the_best_run_of_each_expert_is_taken(tmp_path: Path, mode: str, of_first: str) -> None:
    batch = make_fake_batch(tmp_path, PLAN)
    for name, value in (("parts.expert_1.01", 0.5), ("parts.expert_1.02", 0.25), ("parts.expert_2.02", 7.0)):
        write_finished_run(batch, name, value, mode)
    assert gather(batch, ["parts"], tmp_path / "all") == {"1": of_first, "2": "parts.expert_2.02"}
    assert EXPERTS_FORMAT.read(tmp_path / "all" / "experts.json") == {"1": "1", "2": "2"}
    assert (tmp_path / "all" / "1" / "name").read_text() == of_first


def test_runs_that_cannot_be_gathered_are_reported(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, PLAN)
    write_finished_run(batch, "parts.expert_1.01", 0.5)
    with pytest.raises(UsageError, match="version_1: runs without an expert: alone; gather requires"):
        gather(batch, ["alone"], tmp_path / "all")
    with pytest.raises(UsageError, match="version_1: no export found for expert 2"):
        gather(batch, [], tmp_path / "all")
    done = experiments(tmp_path, "gather", batch.path)
    assert (done.returncode, done.stderr) == (
        2,
        "experiments: missing argument FOLDER. usage: experiments gather BATCH FOLDER [RUN ...]\n",
    )
