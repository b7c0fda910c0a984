"""Files and checkpoints: whole or absent, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from tfaip_like.errors import UsageError
from tfaip_like.files import new_folder, recover_folder, write_text
from tfaip_like.train.checkpoints import all_checkpoints, load_checkpoint, save_checkpoint


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with new_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text(text)
    assert (tmp_path / "folder" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_could_not_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    with new_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("old")

    def fill_half() -> None:
        with new_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill_half()
    assert (tmp_path / "folder" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_interrupted_replacement_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".folder.previous").mkdir()
    (tmp_path / ".folder.new-123").mkdir()
    recover_folder(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "text")
    with new_folder(tmp_path / "folder"):
        pass
    (tmp_path / "usual").write_text("text")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~(0o666 & ~(tmp_path / "usual").stat().st_mode)


WRITES = """
import pathlib, sys
from tfaip_like.files import new_folder, write_text
folder = pathlib.Path(sys.argv[1])
number = 0
while True:
    number += 1
    with new_folder(folder / "best") as best:
        for name in "abc":
            (best / name).write_text(str(number) * 20000)
    write_text(folder / "history.csv", str(number) * 20000)
    if number == 1:
        print("first", flush=True)
"""


def test_kill_9_at_any_moment_leaves_whole_files(tmp_path: Path) -> None:
    for round_number in range(8):
        folder = tmp_path / str(round_number)
        folder.mkdir()
        with subprocess.Popen([sys.executable, "-c", WRITES, folder], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.01 + 0.013 * round_number)
            os.kill(process.pid, signal.SIGKILL)
        recover_folder(folder / "best")
        texts = {name: (folder / "best" / name).read_text() for name in "abc"}
        assert len(set(texts.values())) == 1, "three files of one version"
        text = (folder / "history.csv").read_text()
        assert text == text[: len(text) // 20000] * 20000


NO_NETWORK = keras.Sequential()


def variables() -> list[keras.Variable]:
    return [keras.Variable(np.arange(3, dtype="float32")), keras.Variable(5, dtype="int64"), keras.Variable([True])]


def test_a_checkpoint_gives_back_every_variable_and_the_state(tmp_path: Path) -> None:
    saved = variables()
    checkpoint = save_checkpoint(tmp_path, 3, NO_NETWORK, saved, {"best": 0.5}, keep=2)
    for variable in saved:
        variable.assign(keras.ops.zeros_like(variable))
    state = load_checkpoint(checkpoint, NO_NETWORK, saved)
    assert state["best"] == 0.5
    assert state["epoch"] == checkpoint.epoch == 3
    for variable, expected in zip(saved, variables(), strict=True):
        np.testing.assert_array_equal(np.asarray(variable), np.asarray(expected))
        assert variable.dtype == expected.dtype


def test_the_latest_checkpoints_are_kept(tmp_path: Path) -> None:
    for epoch in (9, 10, 11):
        save_checkpoint(tmp_path, epoch, NO_NETWORK, variables(), {}, keep=2)
    assert [checkpoint.epoch for checkpoint in all_checkpoints(tmp_path)] == [10, 11]


def test_a_damaged_checkpoint_is_recognised(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path, 1, NO_NETWORK, variables(), {}, keep=1)
    file = checkpoint.path / "variables.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UsageError, match="damaged"):
        load_checkpoint(checkpoint, NO_NETWORK, variables())
    file.write_bytes(content[:100])
    with pytest.raises(UsageError, match="damaged"):
        load_checkpoint(checkpoint, NO_NETWORK, variables())
    file.unlink()
    with pytest.raises(UsageError, match="not a complete checkpoint"):
        load_checkpoint(checkpoint, NO_NETWORK, variables())


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path, 1, NO_NETWORK, variables(), {}, keep=1)
    with pytest.raises(UsageError, match=r"does not fit this scenario: variable.* is \(3,\) in the checkpoint"):
        load_checkpoint(checkpoint, NO_NETWORK, [keras.Variable(np.zeros(4)), *variables()[1:]])
    assert json.loads((checkpoint.path / "state.json").read_text())["epoch"] == 1
