"""doctor says what is wrong with a machine, and how to fix it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Run

from tfaip_like import TrainingError, UsageError
from tfaip_like._cli.doctor import doctor
from tfaip_like._inspection.doctor import Doctor, Finding, Severity, _check_environment, run_checks, summarize_failures
from tfaip_like._utils.lazy_keras import set_variable
from tfaip_like.settings import Device


def findings(settings: Doctor) -> Mapping[str, Finding]:
    return {finding.subject: finding for finding in run_checks(settings, start=lambda device: None)}


def reports_problem(finding: Finding, text: str) -> bool:
    return finding.severity is Severity.ERROR and text in finding.text and bool(finding.advice)


def test_a_working_machine_has_no_findings(tmp_path: Path) -> None:
    found = findings(Doctor(output_dir=tmp_path / "not" / "yet" / "there"))
    assert summarize_failures(found.values()) == ""
    assert {"packages", "memory", "output directory", "shared memory", "devices", "computation"} <= set(found)
    assert list(tmp_path.iterdir()) == []


def output_directory(path: Path) -> Finding:
    return next(one for one in run_checks(Doctor(output_dir=path)) if one.subject == "output directory")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("file", "is a file, not a directory"),
        ("file/runs", "cannot be created: {}/file is a file"),
        ("link", "is a link to a path that does not exist, not a directory"),
        ("link/runs", "cannot be created: {}/link is a link to a path that does not exist"),
        ("/proc/runs", "cannot be created in /proc: No such file or directory"),
    ],
)
def test_a_directory_that_cannot_be_written_is_wrong(place: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    found = output_directory(tmp_path / place)
    assert reports_problem(found, text.format(tmp_path))
    assert found.advice == "choose another directory: --output_dir DIR"


def test_a_missing_directory_is_reported_with_the_parent_that_will_contain_it(tmp_path: Path) -> None:
    found = output_directory(tmp_path / "not/yet")
    assert found.severity is Severity.OK
    assert f"{tmp_path}/not/yet: does not exist yet, can be created in {tmp_path}, " in found.text
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_disk_is_wrong(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert reports_problem(output_directory(small_disk), "cannot be written: Read-only file system")


def test_a_full_disk_is_wrong(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reports_problem(findings(Doctor(output_dir=small_disk / "runs"))["output directory"], "MB free, at least")
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    found = findings(Doctor())
    assert reports_problem(found["temporary directory"], "MB free, at least")
    assert "export TMPDIR=" in found["temporary directory"].advice


def test_a_configuration_that_cannot_be_written_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert reports_problem(findings(Doctor())["configuration directory"], "is a file")


def test_packages_that_are_missing_or_too_old_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "tfaip_like-9.dist-info" / "METADATA"
    metadata.parent.mkdir()
    wanted = ("numpy>=99", "no-such-package-at-all", "keras>=3", "onnx>=999; extra == 'onnx'")
    lines = ["Metadata-Version: 2.1", "Name: tfaip_like", "Version: 9", *(f"Requires-Dist: {one}" for one in wanted)]
    metadata.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = findings(Doctor())
    assert reports_problem(found["numpy"], "but >=99 is required")
    assert found["numpy"].advice == "pip install 'numpy>=99'"
    assert reports_problem(found["no-such-package-at-all"], "not installed")
    assert "onnx" not in found
    assert "keras 3" in found["packages"].text


@contextmanager
def limited(kind: int, limit: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def test_memory_that_cannot_be_shared_is_wrong() -> None:
    with limited(resource.RLIMIT_FSIZE, 2**20):
        assert reports_problem(
            findings(Doctor())["shared memory"], "data workers cannot use it (tested with 16.8 MB): "
        )


def test_too_few_open_files_are_wrong() -> None:
    with limited(resource.RLIMIT_NOFILE, 128):
        assert reports_problem(findings(Doctor())["open files"], "at most 128")


TOOLS = ("sbatch", "squeue", "scancel", "sinfo")


@pytest.mark.parametrize(
    ("tools", "sinfo", "text"),
    [
        ((), "", "no sbatch in PATH"),
        (("sbatch", "sinfo"), "", "squeue, scancel not found"),
        (TOOLS, "echo 'no controller' >&2; exit 1", "sinfo fails: no controller"),
    ],
)
def test_slurm_is_wrong_only_where_it_is_needed(
    tools: tuple[str, ...], sinfo: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_tools(tmp_path, tools, sinfo, monkeypatch)
    assert reports_problem(findings(Doctor(slurm=True))["SLURM"], text)
    assert findings(Doctor())["SLURM"].severity is Severity.NOTE


def test_slurm_that_answers_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_fake_tools(tmp_path, TOOLS, "echo 'main* up 2'; echo 'gpu up 1'", monkeypatch)
    assert findings(Doctor(slurm=True))["SLURM"] == Finding("SLURM", "2 partitions: main* up 2, gpu up 1")


def install_fake_tools(folder: Path, tools: tuple[str, ...], sinfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in tools:
        (folder / tool).write_text(f"#!/bin/sh\n{sinfo if tool == 'sinfo' else ''}\n")
        (folder / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("device", "text"), [(Device(gpus=[3]), "finds no GPU"), (Device(backend="torch"), "--device.backend torch")]
)
def test_a_device_that_is_not_there_is_wrong(device: Device, text: str) -> None:
    found = list(run_checks(Doctor(device=device)))[-1]
    assert found.subject == "devices"
    assert found.severity is Severity.ERROR
    assert text in found.text


@pytest.mark.parametrize("is_set", [False, True])
def test_a_backend_is_an_environment_variable_only_if_the_user_has_set_it(
    is_set: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_set:
        monkeypatch.setattr("tfaip_like._utils.lazy_keras._SET_BY_US", {})
        monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    else:
        monkeypatch.setenv("KERAS_BACKEND", "another")  # undone at the end
        monkeypatch.delenv("KERAS_BACKEND")
        set_variable("KERAS_BACKEND", "tensorflow")
    shown = [one.text for one in _check_environment(os.environ)]
    assert any("KERAS_BACKEND=tensorflow" in text for text in shown) == is_set


def test_the_version_of_another_backend_is_shown() -> None:
    packages = next(one for one in run_checks(Doctor(device=Device(backend="jax"))) if one.subject == "packages")
    assert packages.text.startswith("jax 0.")


def test_variables_that_change_how_it_computes_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=there")
    assert "XLA_FLAGS=--xla_dump_to=there" in findings(Doctor())["environment"].text


def test_the_exit_code_is_1_if_there_is_a_problem(quick_run: Run, tmp_path: Path) -> None:
    good = quick_run("train-scenario", "scenarios.minimal", "--doctor", "--trainer.output_dir", tmp_path / "run")
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "No problems found."), good.stderr
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    bad = quick_run("train-scenario", "scenarios.minimal", "--doctor", "--trainer.output_dir", tmp_path / "file/run")
    assert bad.returncode == 1
    assert bad.stderr.endswith("train-scenario: 1 problem to fix: output directory\n")
    assert "       -> choose another directory: --trainer.output_dir DIR\n" in bad.stdout
    assert "KERAS_BACKEND" not in good.stdout


def test_the_command_examines_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor(["--output_dir", str(tmp_path)])
    assert f"{tmp_path}: writable" in capsys.readouterr().out
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="^1 problem to fix: output directory$"):
        doctor(["--output_dir", str(tmp_path / "file")])
    with pytest.raises(UsageError, match="runs: unexpected argument; to check a directory, pass --output_dir runs"):
        doctor(["runs"])
