"""The output folder of a training is deleted, emptied, moved or replaced while it runs."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import slow
from small import small
from stopping import NumberedPoints

from tfaip_like import Mode, Processor, Sample, UsageError, train
from tfaip_like._runs.batch_layout import BATCH_INDEX, BATCH_VARIABLE
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.output_dir_lock import OutputDirLostError, lock_output_dir
from tfaip_like._runs.reader import Run
from tfaip_like._training.checkpointing import checkpoints
from tfaip_like._training.checkpointing.checkpoints import list_checkpoints
from tfaip_like._utils.files import atomic_directory, atomic_write_text

OTHER = "the files of another run"


class Wait(Processor):
    """Waits at a sample of the second epoch until the test has done something to the folder."""

    folder: Path
    """Files `reached` and `done` are exchanged here."""

    modes = (Mode.TRAIN,)

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        if sample.meta["number"] == 60 and (self.folder / "run").exists():
            checkpoints = OutputDir(self.folder / "run").checkpoints
            if checkpoints.exists() and not (self.folder / "done").exists():
                (self.folder / "reached").touch()
                while not (self.folder / "done").exists():
                    time.sleep(0.01)
        return sample


def train_and_manipulate(tmp_path: Path, manipulate: Callable[[Path], None], **trainer: Any) -> None:
    """Train, and do something to the output folder in the second epoch."""

    def wait() -> None:
        while not (tmp_path / "reached").exists():
            time.sleep(0.01)
        try:
            manipulate(tmp_path / "run")
        finally:
            (tmp_path / "done").touch()

    threading.Thread(target=wait, daemon=True).start()
    train(
        small(
            tmp_path / "run",
            data=NumberedPoints(processors=[Wait(folder=tmp_path)]),
            train={"num_processes": 0},
            trainer={"epochs": 2, "steps_per_execution": 1, **trainer},
        )
    )


def replace_by_another_run(folder: Path) -> None:
    folder.rename(folder.parent / "moved")
    for name in ("checkpoints/epoch_0001", "best", "tensorboard", "export", "summaries"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text(OTHER)
    for name in ("run.json", "history.csv", "trainer_params.json", "train.log", "report.html"):
        (folder / name).write_text(OTHER)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove(folder: Path) -> None:
    while folder.exists():  # the training may write to it at the same time
        shutil.rmtree(folder, ignore_errors=True)


def replace_by_an_empty_folder(folder: Path) -> None:
    remove(folder)
    folder.mkdir()


def redirect_link(link: Path) -> None:
    link.unlink()
    (link.parent / "elsewhere").mkdir()
    link.symlink_to(link.parent / "elsewhere")


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MOVED = "was moved to .*/moved; run `resume-training .*/moved` to continue"


@pytest.mark.parametrize(
    ("manipulate", "printed"),
    [
        (remove, "(was deleted or moved|was emptied)"),  # whichever is noticed first
        (lambda folder: folder.rename(folder.parent / "moved"), MOVED),
        slow(replace_by_an_empty_folder, "was replaced by another one"),
        (replace_by_another_run, MOVED),
        slow(empty, "was emptied"),
    ],
)
def test_a_training_whose_output_folder_is_lost_stops_and_writes_nothing(
    manipulate: Callable[[Path], None], printed: str, tmp_path: Path
) -> None:
    left: list[tuple[bool, dict[Path, bytes]]] = []

    def manipulate_and_list(folder: Path) -> None:
        manipulate(folder)
        left.append((folder.exists(), files(folder)))

    with pytest.raises(OutputDirLostError, match=rf"^Trainer.output_dir \S*/run: .* {printed}$"):
        train_and_manipulate(tmp_path, manipulate_and_list)
    while not left:  # the training may notice it before it is done
        time.sleep(0.01)
    assert [((tmp_path / "run").exists(), files(tmp_path / "run"))] == left


@pytest.mark.slow
def test_a_lost_folder_is_the_reason_before_all_other_errors(tmp_path: Path) -> None:
    def manipulate(folder: Path) -> None:
        remove(folder)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(OutputDirLostError):
        train_and_manipulate(tmp_path, manipulate)


@pytest.mark.slow
def test_a_link_that_leads_elsewhere_stops_the_training(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "there")
    with pytest.raises(OutputDirLostError, match=r"was moved to .*/there; run `resume-training .*/there` to continue"):
        train_and_manipulate(tmp_path, redirect_link)
    assert not files(tmp_path / "elsewhere")


def test_deleted_subdirectories_are_created_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def manipulate(folder: Path) -> None:
        for name in ("checkpoints", "best", "tensorboard", "summaries", "non_finite"):
            shutil.rmtree(folder / name, ignore_errors=True)

    train_and_manipulate(tmp_path, manipulate)
    folder = OutputDir(tmp_path / "run")
    assert Run(folder).info["status"] == "done"
    *earlier, last = [str(checkpoint.position) for checkpoint in list_checkpoints(folder.checkpoints)]
    assert last == "the end of epoch 2"
    assert earlier in ([], ["the end of epoch 1"])  # written again if it was being written
    assert all(files(folder.tensorboard / name) for name in ("train", "val"))
    assert "tensorboard/train was deleted; its events before this step are lost" in caplog.text
    assert folder.best.exists() or f"{folder.best} was deleted during training" in caplog.text


def test_the_output_directory_is_identified_by_inode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = OutputDir(Path("parent/run"))
    with lock_output_dir(folder) as hold:
        hold.check()
        Path("parent").rename("other")
        with pytest.raises(OutputDirLostError, match="was moved to .*/other/run"):
            atomic_write_text(folder.summary, "")
        Path("parent").symlink_to("other")
        atomic_write_text(folder.summary, "")
        shutil.rmtree("other")
        with pytest.raises(OutputDirLostError, match="was deleted or moved"), atomic_directory(folder.best):
            pass
        assert not Path("other").exists()
    atomic_write_text(tmp_path / "summary.json", "")  # nobody guards it any more


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_run_that_is_starting_does_not_recreate_a_batch_that_was_moved(
    is_replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, moved = tmp_path / "version_1", tmp_path / "elsewhere"
    run = OutputDir(batch / "runs" / "wide")
    batch.mkdir()
    (batch / BATCH_INDEX).touch()
    monkeypatch.setenv(BATCH_VARIABLE, str(batch))
    with lock_output_dir(run):
        pass
    batch.rename(moved)
    if is_replaced:
        (batch / "runs").mkdir(parents=True)
    with pytest.raises(
        UsageError, match=r"--trainer.output_dir \S*/wide: the batch \S*/version_1 was moved or deleted"
    ):
        lock_output_dir(run).__enter__()
    with pytest.raises(UsageError, match=r"\S*/wide: cannot be written: No such file or directory"):
        lock_output_dir(run, resume=True).__enter__()
    assert not run.path.exists()
    with lock_output_dir(OutputDir(tmp_path / "of" / "another")):  # started by code of the run
        assert (tmp_path / "of" / "another").exists()


def test_a_checkpoint_whose_directory_is_deleted_while_it_is_written_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, deleted = checkpoints.write_arrays, []

    def delete_first(path: Path, arrays: Any) -> None:
        write(path, arrays)
        if not deleted:
            deleted.append(path)
            shutil.rmtree(tmp_path / "run" / "checkpoints")

    monkeypatch.setattr(checkpoints, "write_arrays", delete_first)
    train(small(tmp_path / "run", trainer={"epochs": 2}))
    found = list_checkpoints(OutputDir(tmp_path / "run").checkpoints)
    assert [checkpoint.position.epoch for checkpoint in found] == [1, 2]
    assert deleted
