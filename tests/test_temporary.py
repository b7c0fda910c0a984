"""Temporary directories: those of killed processes go at the next start, those of living ones stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tfaip_like._utils.files import atomic_directory, atomic_write_text, make_staging_dir, recover_interrupted_replace
from tfaip_like._utils.temp_dirs import locked_dir, remove_locked_dir, remove_stale_dirs

MAKES = """
import sys, time
from pathlib import Path
from tfaip_like._utils.files import make_staging_dir
from tfaip_like._utils.temp_dirs import process_temp_dir
print(process_temp_dir(), flush=True)
print(make_staging_dir(Path(sys.argv[1])), flush=True)
time.sleep(1000)
"""


@contextmanager
def process_that_makes_directories(target: Path) -> Iterator[tuple[subprocess.Popen[str], list[Path]]]:
    environment = {**os.environ, "TMPDIR": str(target.parent)}
    command = [sys.executable, "-c", MAKES, str(target)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, [Path(process.stdout.readline().strip()) for _ in range(2)]
        finally:
            process.kill()


def test_files_of_killed_processes_are_removed_and_those_of_running_ones_kept(tmp_path: Path) -> None:
    target = tmp_path / "best"
    with process_that_makes_directories(target) as (process, made):
        remove_stale_dirs(tmp_path, "tfaip_like-")
        recover_interrupted_replace(target)
        assert all(path.is_dir() for path in made)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert all(path.is_dir() for path in made)
        with process_that_makes_directories(target) as (_, others):
            assert not any(path.exists() for path in made)
            assert all(path.is_dir() for path in others)


def test_a_process_that_ends_removes_its_directory(tmp_path: Path) -> None:
    code = "from tfaip_like._utils.temp_dirs import *; (process_temp_dir() / 'x').touch(); print(process_temp_dir())"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{tmp_path}/tfaip_like-")
    assert not list(tmp_path.iterdir())


def test_directories_of_one_process_do_not_interfere(tmp_path: Path) -> None:
    with locked_dir(tmp_path, "x-") as one, locked_dir(tmp_path, "x-") as two:
        assert one.is_dir()
        assert two.is_dir()
    assert not list(tmp_path.iterdir())


def test_links_and_files_of_the_same_name_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "x-link").symlink_to(tmp_path / "precious")
    (tmp_path / "x-file").touch()
    with locked_dir(tmp_path, "x-"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"precious", "x-link", "x-file"}


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "a", "-", "..a"])
def test_files_and_folders_may_have_the_longest_name_of_the_system(name: str, tmp_path: Path) -> None:
    for text in ("old", "new"):
        atomic_write_text(tmp_path / name, text)
    assert (tmp_path / name).read_text() == "new"
    folder = tmp_path / "below" / name
    for text in ("old", "new"):
        with atomic_directory(folder) as staging:
            (staging / "file").write_text(text)
    assert (folder / "file").read_text() == "new"
    os.rename(folder, folder.parent / "kept")
    remove_locked_dir(make_staging_dir(folder))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


def test_a_temporary_file_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".run.json.tmp").write_text("half of a much longer text")
    atomic_write_text(tmp_path / "run.json", "{}")
    assert (tmp_path / "run.json").read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_many_processes_may_write_the_same_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tfaip_like._utils.files import atomic_write_text\n"
        "for _ in range(100): atomic_write_text(Path(sys.argv[1]), sys.argv[2] * 5000)"
    )
    words = [[sys.executable, "-c", code, str(tmp_path / "file"), letter] for letter in "abc"]
    processes = [subprocess.Popen(command) for command in words]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert set((tmp_path / "file").read_text()) in ({"a"}, {"b"}, {"c"})
    assert len((tmp_path / "file").read_text()) == 5000
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_names_of_files_that_are_not_utf8_keep_their_bytes_in_texts(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "list", "a\udcff.png \ud800")
    assert (tmp_path / "list").read_bytes() == b"a\xff.png \xef\xbf\xbd"
