"""`--trainer.mirror_to`: the copy of a run is complete at any time, and resumes exactly."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Run
from hypothesis import given
from hypothesis import strategies as st
from small import Small, small
from stopping import differences

from tfaip_like import Interrupted, UsageError, train
from tfaip_like._runs import fetching
from tfaip_like._runs.fetching import fetch_exports, fetch_run
from tfaip_like._runs.mirror import (
    MANIFEST_FORMAT,
    Manifest,
    MirroredFile,
    RunMirror,
    _check_name,
    checkpoint_order,
    hash_file,
    run_identity,
)
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing import run_uploader
from tfaip_like._training.checkpointing.run_uploader import RunUploader, take_snapshot
from tfaip_like._training.resume_verification import _shorten
from tfaip_like._user_code.trust import UntrustedCodeError, check_trusted
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.settings import Resume

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory() -> Iterator[Any]:
    """Provide an empty file system in memory."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs.clear()


def mirrored(output_dir: Path, location: object, **trainer: Any) -> Small:
    return small(output_dir, trainer={"mirror_to": to_path(str(location)), **trainer})


def resumed(run: Path, scenario: Small) -> None:
    trainer = dataclasses.replace(scenario.trainer, output_dir=run)
    train(dataclasses.replace(scenario, trainer=trainer), Resume())


class Stop(Callback):
    """Stops the process's training as Ctrl-C does."""

    epoch: int = 2
    """After this epoch."""

    def on_epoch_end(self, run: RunContext, results: Any) -> None:
        if run.epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGTERM)


def stored_names(files: Any) -> list[str]:
    return sorted(name for name in files.store if "blobs" not in name)


def test_a_run_resumes_from_its_copy_as_if_it_had_not_stopped(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small(tmp_path / "whole", trainer={"epochs": 4}))
    scenario = mirrored(tmp_path / "first" / "run", "memory://runs", epochs=4)
    with pytest.raises(Interrupted):
        train(scenario, callbacks=[Stop()])
    shutil.rmtree(tmp_path / "first")  # the machine is gone
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "second")
    run = fetch_run("memory://runs/run")
    assert run == Path("run")
    assert json.loads((run / "run.json").read_text())["status"] == "stopped"
    resumed(run.absolute(), scenario)
    assert differences(tmp_path / "whole", run) == []
    manifest = RunMirror("memory://runs/run").latest()
    assert manifest is not None
    assert manifest.checkpoint == "epoch_0004"
    assert manifest.run == run_identity(OutputDir(run))


def test_the_copy_has_all_files_of_the_finished_run_and_nothing_else(memory: Any, tmp_path: Path) -> None:
    train(mirrored(tmp_path / "run", "memory://runs"))
    manifest = RunMirror("memory://runs/run").latest()
    assert manifest is not None
    names = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert manifest.files.keys() == names
    for name in names - {"train.log"}:  # which ends with the line about the upload
        assert manifest.files[name] == hash_file(tmp_path / "run" / name)
    assert stored_names(memory) == ["/runs/run/manifest-00000004.json"]  # of three epochs, and of the end
    blobs = {name.rpartition("/")[2] for name in memory.store if "blobs" in name}
    assert blobs == {file.sha256 for file in manifest.files.values()}
    assert json.loads(memory.cat_file("/runs/run/blobs/" + manifest.files["run.json"].sha256))["status"] == "done"


def make_run(folder: Path, files: dict[str, str]) -> OutputDir:
    for name, text in {"run.json": '{"format_version": 1, "started": "now"}', **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return OutputDir(folder)


def upload(mirror: RunMirror, folder: Path) -> int:
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    checkpoints = [name.split("/")[1] for name in paths if name.startswith("checkpoints/")]
    files = {name: hash_file(path) for name, path in paths.items()}
    latest = max(checkpoints, key=checkpoint_order, default="")
    return mirror.upload(Manifest(run_identity(OutputDir(folder)), latest, files), paths.__getitem__)


def test_only_changed_contents_are_uploaded(memory: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "run", {"best/a": "12345", "export/a": "12345", "history.csv": "1"})
    mirror = RunMirror("memory://runs/run")
    assert upload(mirror, tmp_path / "run") == 5 + 1 + len((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/history.csv").write_text("12")
    assert upload(mirror, tmp_path / "run") == 2
    assert upload(mirror, tmp_path / "run") == 0


@pytest.mark.parametrize("operation", ["put_file", "pipe_file", "rm_file"])
@pytest.mark.parametrize("call", range(4))
def test_a_failure_at_any_operation_leaves_a_complete_state(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, call: int
) -> None:
    mirror = RunMirror("memory://runs/run")
    make_run(tmp_path / "run", {"checkpoints/epoch_0001/variables.npz": "old", "history.csv": "old history"})
    upload(mirror, tmp_path / "run")
    states = [read_state(mirror, tmp_path / "before")]
    make_run(tmp_path / "run", {"checkpoints/epoch_0002/variables.npz": "new", "history.csv": "new history"})
    shutil.rmtree(tmp_path / "run/checkpoints/epoch_0001")
    original, calls = getattr(type(memory), operation), []

    def fail(self: Any, path: str, *args: Any, **options: Any) -> None:
        calls.append(path)
        if len(calls) == call + 1:
            if operation != "rm_file":  # as a kill leaves it on a file system
                target = args[0] if operation == "put_file" else path
                self.store.pop(target, None)
                self.pipe(target, b"p") if operation == "put_file" else original(self, path, b"{")
            raise KeyboardInterrupt
        original(self, path, *args, **options)

    monkeypatch.setattr(type(memory), operation, fail)
    with contextlib.suppress(KeyboardInterrupt):
        upload(mirror, tmp_path / "run")
    monkeypatch.undo()
    state = read_state(mirror, tmp_path / "after")
    upload(mirror, tmp_path / "run")
    states.append(read_state(mirror, tmp_path / "again"))
    assert state in states
    assert states[1]["checkpoints/epoch_0002/variables.npz"] == b"new"
    assert len(stored_names(memory)) == 1


def read_state(mirror: RunMirror, folder: Path) -> dict[str, bytes]:
    mirror.download(folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


KILLED = """
import os, signal, sys
from pathlib import Path
from fsspec.implementations.local import LocalFileSystem
from small import small
from tfaip_like import train
from tfaip_like._runs.mirror import RunMirror

uploads, count, put_file, upload = 0, 0, LocalFileSystem.put_file, RunMirror.upload

def count_uploads(self, *args):
    global uploads, count
    uploads, count = uploads + 1, 0
    return upload(self, *args)

def kill_midway(self, source, target, **options):
    global count
    count += 1
    if (uploads, count) == (2, int(sys.argv[3])):
        Path(target).write_bytes(Path(source).read_bytes()[:100])
        os.kill(os.getpid(), signal.SIGKILL)
    put_file(self, source, target, **options)

LocalFileSystem.put_file, RunMirror.upload = kill_midway, count_uploads
train(small(Path(sys.argv[1]), trainer={"epochs": 3, "mirror_to": Path(sys.argv[2])}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("file_number", [1, 4])
def test_a_run_killed_in_the_middle_of_an_upload_resumes_exactly(tmp_path: Path, file_number: int) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
    words = [sys.executable, "-c", KILLED, tmp_path / "run", tmp_path / "mirror", str(file_number)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    run = fetch_run(str(tmp_path / "mirror/run"), tmp_path / "fetched")
    resumed(run, mirrored(run, tmp_path / "mirror", epochs=3))
    train(small(tmp_path / "whole"))
    assert differences(tmp_path / "whole", run) == []


def test_the_training_does_not_wait_for_an_upload(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished, upload_run = threading.Event(), RunMirror.upload

    def upload_after_training(*args: Any) -> int:
        assert finished.wait(60)
        return upload_run(*args)

    monkeypatch.setattr(RunMirror, "upload", upload_after_training)
    submitted: list[None] = []
    close = RunUploader.close

    def finish(self: RunUploader) -> None:
        submitted.append(None)
        finished.set()
        close(self)

    monkeypatch.setattr(RunUploader, "close", finish)
    train(mirrored(tmp_path / "run", "memory://runs"))
    assert submitted
    assert stored_names(memory) == ["/runs/run/manifest-00000002.json"]  # those in between were replaced by newer ones


def test_a_failed_upload_is_a_warning_and_the_next_one_uploads_everything(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures, put_file = [True], type(memory).put_file

    def fail_at_first(self: Any, *args: Any, **options: Any) -> None:
        if failures:
            raise OSError("connection reset")
        put_file(self, *args, **options)

    monkeypatch.setattr(type(memory), "put_file", fail_at_first)
    monkeypatch.setattr(run_uploader, "RETRY_DELAYS_S", (0, 0))
    run = make_run(tmp_path / "run", {"history.csv": "1"})
    uploader = RunUploader(run, RunMirror("memory://runs/run"))
    uploader.submit()
    while "upload failed" not in caplog.text:
        pass
    assert "--trainer.mirror_to memory://runs/run: upload failed (connection reset); the next" in caplog.text
    failures.clear()
    uploader.submit()
    uploader.close()
    assert fetch_run("memory://runs/run", tmp_path / "fetched").joinpath("history.csv").read_text() == "1"
    assert [path.name for path in run.path.iterdir() if path.name.startswith(".")] == []


def test_a_snapshot_is_not_changed_by_the_training(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"checkpoints/epoch_0001/state.json": "{}", "train.log": "1\n", "best/a": "old"})
    (tmp_path / "run/checkpoints/superseded").mkdir()
    (tmp_path / "run/checkpoints/superseded/x").write_text("")
    snapshot = take_snapshot(run)
    with (tmp_path / "run/train.log").open("a") as file:
        file.write("2\n")
    shutil.rmtree(tmp_path / "run/checkpoints/epoch_0001")
    (tmp_path / "run/best/a").unlink()
    (tmp_path / "run/best/a").write_text("new")
    names = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()}
    assert names == {"run.json", "train.log", "best/a", "checkpoints/epoch_0001/state.json"}
    assert [(snapshot / name).read_text() for name in ("train.log", "best/a")] == ["1\n", "old"]


def test_another_run_is_neither_overwritten_at_the_url_nor_in_the_directory(memory: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "run", {"history.csv": "1"})
    upload(RunMirror("memory://runs/run"), tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(UsageError, match=r"mirror_to memory://runs/run: already contains a run. Run `resume-training"):
        train(mirrored(tmp_path / "run", "memory://runs"))
    make_run(tmp_path / "other", {"run.json": '{"format_version": 1, "started": "yesterday"}'})
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("")
    for name in ("other", "notes"):
        with pytest.raises(UsageError, match="exists and is not the run at memory://runs/run"):
            fetch_run("memory://runs/run", tmp_path / name)


def test_a_directory_with_the_same_or_a_later_state_is_kept(memory: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"checkpoints/epoch_0002/state.json": "{}"}).path
    upload(RunMirror("memory://runs/run"), run)
    (run / "kept").write_text("")
    assert fetch_run("memory://runs/run", run) == run
    assert (run / "kept").exists()
    os.rename(run / "checkpoints/epoch_0002", run / "checkpoints/epoch_0001_step_00345")
    assert fetch_run("memory://runs/run", run) == run
    assert not (run / "kept").exists()
    assert (run / "checkpoints/epoch_0002").exists()


def damage_blob(files: Any) -> None:
    name = next(name for name in files.store if "blobs" in name)
    files.pipe(name, b"x" * files.size(name))


def damage_names(files: Any) -> None:
    manifest = Manifest("now", "", {"../outside": MirroredFile("0" * 64, 0)})
    files.pipe("/runs/run/manifest-00000009.json", json.dumps(MANIFEST_FORMAT.encode(manifest)).encode())


def damage_hash(files: Any) -> None:
    manifest = Manifest("now", "", {"a": MirroredFile("../../secret", 0)})
    files.pipe("/runs/run/manifest-00000009.json", json.dumps(MANIFEST_FORMAT.encode(manifest)).encode())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_blob, "checksum mismatch; the file is damaged"),
        (damage_names, '"../outside" is not a path inside the run'),
        (damage_hash, "'../../secret' is not a SHA-256 hash"),
        (lambda files: files.rm("/runs", recursive=True), "contains no run that --trainer.mirror_to has copied"),
    ],
)
def test_a_damaged_copy_is_an_error_and_nothing_is_left(
    memory: Any, tmp_path: Path, damage: Callable[[Any], None], message: str
) -> None:
    make_run(tmp_path / "run", {"history.csv": "1"})
    upload(RunMirror("memory://runs/run"), tmp_path / "run")
    damage(memory)
    with pytest.raises(UsageError) as error:
        fetch_run("memory://runs/run", tmp_path / "fetched")
    assert message in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@given(st.text(max_size=12) | st.lists(st.sampled_from(["..", ".", "a", ""])).map("/".join))
def test_names_of_a_manifest_never_lead_out_of_the_directory(name: str) -> None:
    try:
        checked = _check_name(name, "s3://bucket/run")
    except UsageError:
        return
    root = Path("/root/run")
    assert Path(os.path.normpath(root / checked)).is_relative_to(root)
    assert Path(os.path.normpath(root / checked)) != root


def test_code_in_a_fetched_run_is_not_trusted(memory: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "run", {"trainer_params.json": "{}", "scenario.py": "raise SystemExit"})
    upload(RunMirror("memory://runs/run"), tmp_path / "run")
    run = fetch_run("memory://runs/run", tmp_path / "fetched")
    with pytest.raises(UntrustedCodeError):
        check_trusted(run / "scenario.py")


def test_exports_and_checkpoints_of_a_copy_are_fetched_once(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"best/a": "1", "export/a": "2", "checkpoints/epoch_0001/b": "3", "trainer_params.json": "{}"}
    make_run(tmp_path / "run", files)
    upload(RunMirror("memory://runs/run"), tmp_path / "run")
    run = fetch_exports("memory://runs/run")
    assert (run / "best/a").read_text() + (run / "export/a").read_text() == "12"
    assert not (run / "checkpoints").exists()
    assert (fetch_exports("memory://runs/run/best") / "a").read_text() == "1"
    assert (fetch_exports("memory://runs/run/checkpoints/epoch_0001") / "b").read_text() == "3"
    with pytest.raises(UsageError, match="memory://runs/run/no: no such directory in the mirrored run"):
        fetch_exports("memory://runs/run/no")
    monkeypatch.setattr(fetching.RunMirror, "download", None)  # is not called again
    assert fetch_exports("memory://runs/run") == run


@pytest.mark.slow
def test_resume_training_fetches_from_a_url(quick_run: Run, tmp_path: Path) -> None:
    flags = ["--trainer.epochs", 1, "--trainer.mirror_to", f"file://{tmp_path}/mirror", "--trainer.output_dir", "run"]
    done = quick_run("train-scenario", "scenarios.tutorial", *flags, "--trainer.samples_per_epoch", 64, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "uploaded epoch_0001 to" in done.stderr
    url = f"file://{tmp_path}/mirror/run"
    done = quick_run("resume-training", url, "--output_dir", "other", "--trainer.epochs", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "other/history.csv").read_text().splitlines()) == 3
    done = quick_run("resume-training", "run", "--output_dir", "other", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--output_dir: only for a run at a URL" in done.stderr


@pytest.mark.parametrize("url", ["nonsense://x", "/dev/null/x"])
def test_an_unwritable_url_is_an_error_before_the_training(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match=f"mirror_to {url}/run: "):
        train(mirrored(tmp_path / "run", url))


def test_a_verification_of_resuming_uploads_nothing(memory: Any, tmp_path: Path) -> None:
    shortened = _shorten(mirrored(tmp_path / "run", "memory://runs"), tmp_path / "verification")
    assert shortened.trainer.mirror_to is None
