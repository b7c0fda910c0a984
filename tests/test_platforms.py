"""Systems other than Linux: macOS lacks some functions of Linux, Windows whole modules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from command_server import REPOSITORY

import tfaip_like._utils.locks as locks
import tfaip_like._utils.operating_system as operating_system
from tfaip_like import train
from tfaip_like._utils.locks import file_lock, is_locked, lock_descriptor
from tfaip_like._utils.operating_system import num_usable_cpus
from tfaip_like.settings import Trainer

POSIX_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
POSIX_FUNCTIONS = (
    *("fchmod", "fork", "geteuid", "getuid", "getpgid", "killpg", "memfd_create", "mkfifo", "register_at_fork"),
    *("sched_getaffinity", "setsid", "statvfs", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"),
)
POSIX_SIGNALS = ("SIGALRM", "SIGCONT", "SIGHUP", "SIGKILL", "SIGSTOP", "SIGTSTP", "SIGUSR1", "SIGUSR2")

WITHOUT_POSIX = f"""
import multiprocessing.util, os, select, shutil, signal, subprocess, sys, tempfile  # they choose by the system's name
{{keras}}
for module in {POSIX_MODULES}:
    sys.modules[module] = None
for function in {POSIX_FUNCTIONS}:
    vars(os).pop(function, None)
for name in {POSIX_SIGNALS}:
    vars(signal).pop(name, None)
for name in ("pthread_sigmask", "set_wakeup_fd"):
    vars(signal).pop(name)
vars(select).pop("poll")
shutil._use_fd_functions = False
opened = os.open
def open_file(path, flags, *more, **options):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return opened(path, flags, *more, **options)
os.open = open_file
"""


def run_without_posix(code: str, folder: Path, keras: bool = False) -> subprocess.CompletedProcess[str]:
    """Run code in a process that lacks what Windows lacks; `keras` is imported first, it is not ours to check."""
    prelude = WITHOUT_POSIX.format(keras="import keras" if keras else "")
    return subprocess.run(
        [sys.executable, "-c", prelude + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from scenarios.minimal import Classifier, Minimal

    folder = tmp_path_factory.mktemp("platforms")
    trainer = Trainer(epochs=1, samples_per_epoch=64, jit_compile=False, output_dir=folder / "run")
    train(Minimal(model=Classifier(units=4), trainer=trainer))
    return folder / "run" / "best"


def test_all_modules_are_imported_and_predictions_made_without_posix(export: Path) -> None:
    done = run_without_posix(
        """
import importlib, pkgutil
import numpy as np
import tfaip_like
for module in pkgutil.walk_packages(tfaip_like.__path__, "tfaip_like."):
    if "._templates" not in module.name:
        importlib.import_module(module.name)
assert not tfaip_like._utils.operating_system.IS_POSIX
[sample] = tfaip_like.load_predictor("best")([{"image": np.zeros((8, 8), "float32")}])
print(sample.outputs["probabilities"].shape)
tfaip_like._cli.predict_scenario.predict_scenario(["best", "--predict.limit", "2", "--output", "predicted.npz"])
""",
        export.parent,
        keras=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(10,)")
    assert (export.parent / "predicted.npz").is_file()


@pytest.mark.slow
def test_unsupported_features_are_rejected_by_name(tmp_path: Path) -> None:
    done = run_without_posix(
        """
from tfaip_like import UsageError
from tfaip_like._cli.experiments import experiments
from tfaip_like._cli.train_scenario import train_scenario
from tfaip_like.data._workers.process_pool import ProcessPool
for call in (
    lambda: train_scenario(["scenarios.minimal", "--trainer.output_dir", "run"]),
    lambda: experiments("generate --scenario scenarios.minimal --models Classifier=1 --description d".split()),
    lambda: ProcessPool(None, 2, 4),
):
    try:
        call()
    except UsageError as error:
        print(error)
""",
        tmp_path,
    )
    features = ("training", "experiments", "num_processes > 0 (data workers)")
    requires = "requires Linux or macOS (POSIX signals and file locks). On Windows, use WSL."
    assert done.stdout.splitlines() == [f"{feature} {requires}" for feature in features], done.stderr
    assert not list(tmp_path.iterdir())


def test_cpus_are_counted_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert num_usable_cpus() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert num_usable_cpus() == os.cpu_count()


@pytest.mark.parametrize(("word", "module"), [("sched_getaffinity", operating_system), ("flock(", locks)])
def test_differences_between_systems_are_in_one_module(word: str, module: ModuleType) -> None:
    users = {path for path in (REPOSITORY / "tfaip_like").rglob("*.py") if word in path.read_text()}
    assert users == {Path(module.__file__ or "")}


def test_locks_are_rejected_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "IS_POSIX", False)
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="no advisory file locks"):
        lock_descriptor(file.fileno())


HOLDER = """
import sys
from pathlib import Path
from tfaip_like._utils.locks import file_lock
with file_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_lock_file_excludes_other_processes_until_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    words = [sys.executable, "-c", HOLDER, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert is_locked(path)
        with pytest.raises(BlockingIOError, match=re.escape(str(path))), file_lock(path, timeout_s=0):
            pass
        holder.kill()
        with file_lock(path):
            assert is_locked(path)
    assert not is_locked(path)
