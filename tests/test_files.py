"""Files and checkpoints: whole or absent after any fault."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import tensorflow as tf

from tfaip_like._cli.command import format_unexpected_error
from tfaip_like._utils.files import (
    atomic_directory,
    atomic_write_text,
    recover_interrupted_replace,
    recover_interrupted_writes,
)


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_directory(tmp_path / "folder") as folder:
            (folder / "file").write_text(text)
    assert (tmp_path / "folder" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_could_not_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "folder") as folder:
        (folder / "file").write_text("old")

    def fill_half() -> None:
        with atomic_directory(tmp_path / "folder") as folder:
            (folder / "file").write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill_half()
    assert (tmp_path / "folder" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_interrupted_replacement_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".folder.previous").mkdir()
    (tmp_path / ".folder.new-123").mkdir()
    recover_interrupted_replace(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_files_of_a_killed_writer_are_restored_or_removed(tmp_path: Path) -> None:
    for name in (".lost.previous", ".lost.new-1", ".best.previous", ".best.new-2", "best", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / ".run.json.abc.tmp").touch()
    recover_interrupted_writes(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "best", "lost"]


def test_an_error_of_the_disk_in_tensorflow_names_the_file() -> None:
    printed = (
        "{{function_node __wrapped__Merge}} /run/serve/variables.index; Input/output error [Op:MergeV2Checkpoints]"
    )
    error = tf.errors.UnknownError(None, None, printed)
    assert format_unexpected_error(error) == "Input/output error: /run/serve/variables.index"


FILL = """
import os, sys, pathlib
from tfaip_like._utils.files import atomic_directory, atomic_write_text
with atomic_directory(pathlib.Path("shared/new/made")) as folder:
    (folder / "below").mkdir(mode=0o700)
    (folder / "below" / "by a library").mkdir(mode=0o755)
    os.close(os.open(folder / "below" / "private", os.O_CREAT, 0o600))
    os.close(os.open(folder / "script", os.O_CREAT, 0o700))
    (folder / "link").symlink_to("nowhere")
atomic_write_text(pathlib.Path("shared/file"), "text")
"""


@pytest.mark.parametrize(
    ("umask", "folder", "file", "script"), [(0o002, 0o775, 0o664, 0o775), (0o027, 0o750, 0o640, 0o750)]
)
def test_new_files_have_the_setgid_bit_and_the_modes_of_the_umask(
    umask: int, folder: int, file: int, script: int, tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o2775)
    subprocess.run([sys.executable, "-c", FILL], cwd=tmp_path, umask=umask, check=True)
    modes = {path: path.lstat().st_mode & 0o7777 for path in (tmp_path / "shared").rglob("*") if not path.is_symlink()}
    made = tmp_path / "shared" / "new" / "made"
    assert modes == {
        **dict.fromkeys((made.parent, made, made / "below", made / "below" / "by a library"), folder | 0o2000),
        **dict.fromkeys((made / "below" / "private", tmp_path / "shared" / "file"), file),
        made / "script": script,
    }


WRITE_AS_ANOTHER = """
import os, pathlib
from tfaip_like._utils.files import atomic_write_text
os.setgroups([])
os.setresuid(65534, 65534, 65534)
atomic_write_text(pathlib.Path("file"), "text")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_file_that_another_member_of_the_group_was_writing_when_killed_is_left_alone() -> None:
    with tempfile.TemporaryDirectory() as name:  # nobody else may pass the directory of pytest
        folder = Path(name)
        folder.chmod(0o777)
        leftover = folder / ".file.tmp"
        leftover.write_text("half")
        leftover.chmod(0o644)
        subprocess.run([sys.executable, "-c", WRITE_AS_ANOTHER], cwd=folder, check=True)
        assert (folder / "file").read_text() == "text"
        assert (folder / "file").stat().st_uid == 65534


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "file", "text")
    with atomic_directory(tmp_path / "folder"):
        pass
    (tmp_path / "usual").write_text("text")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~(0o666 & ~(tmp_path / "usual").stat().st_mode)


WRITES = """
import pathlib, sys
from tfaip_like._utils.files import atomic_directory, atomic_write_text
folder = pathlib.Path(sys.argv[1])
number = 0
while True:
    number += 1
    with atomic_directory(folder / "best") as best:
        for name in "abc":
            (best / name).write_text(str(number) * 20000)
    atomic_write_text(folder / "history.csv", str(number) * 20000)
    if number == 1:
        print("first", flush=True)
"""


def test_kill_9_at_any_moment_leaves_complete_files(tmp_path: Path) -> None:
    for round_number in range(8):
        folder = tmp_path / str(round_number)
        folder.mkdir()
        with subprocess.Popen([sys.executable, "-c", WRITES, folder], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.01 + 0.013 * round_number)
            os.kill(process.pid, signal.SIGKILL)
        recover_interrupted_replace(folder / "best")
        texts = {name: (folder / "best" / name).read_text() for name in "abc"}
        assert len(set(texts.values())) == 1, "three files of one version"
        text = (folder / "history.csv").read_text()
        assert text == text[: len(text) // 20000] * 20000
