"""What many tests use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from _pytest.mark import ParameterSet
from command_server import REPOSITORY, shared_server
from slurm_cluster import Cluster

# A busy machine is not a failure.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
_CONFIGURATION = tempfile.TemporaryDirectory(prefix="configuration-")  # removed at the end of the process
os.environ["XDG_CONFIG_HOME"] = _CONFIGURATION.name  # what tests train must not be recorded as this user's code
os.environ["XDG_CACHE_HOME"] = os.path.join(_CONFIGURATION.name, "cache")
sys.path.insert(0, str(REPOSITORY))  # the scenarios are not installed

_LONGEST = ("faults", "resume", "train_scenario", "sequences", "special_paths", "text_lines", "batch_training")
"""Files of tests to begin with: what begins last must be short, or one process works alone at the end."""

Run = Callable[..., subprocess.CompletedProcess[str]]

tensorflow_only = pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow", reason="a property of TensorFlow"
)
"""For tests in files that `test_backends.py` also runs on the other backends."""


def run_command(
    *words: object, cwd: Path = REPOSITORY, environment: Mapping[str, str] | None = None, timeout: float = 250
) -> subprocess.CompletedProcess[str]:
    """Run an installed console script (or any program) as a user would; nothing is asserted."""
    program, *arguments = [str(word) for word in words]
    script = Path(sys.executable).parent / program
    return subprocess.run(
        [str(script) if script.exists() else program, *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def reset_signal_handlers() -> None:
    """For `preexec_fn`: a shell lets what it starts in the background ignore Ctrl-C, and nohup a closed terminal."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    rank = {f"test_{name}.py": place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))  # stable: files stay together


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape names that are not UTF-8 in captured output: the channel between pytest's processes takes no other."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_encodable(item) for item in value)
    return value


def slow(*values: object) -> ParameterSet:
    """Return a case of a test that the others stand for by default."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture
def run() -> Run:
    return run_command


@pytest.fixture(scope="session")
def quick_run() -> Run:
    """Like `run` for our own commands, without the seconds that TensorFlow takes to import."""
    return shared_server().run


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Provide a real SLURM cluster of one node, which the commands of this process find."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: it holds a socket
    cluster = Cluster(folder)
    with pytest.MonkeyPatch.context() as environment:
        try:
            cluster.start()
            for name, value in cluster.environment.items():
                environment.setenv(name, value)
            yield cluster
        finally:
            cluster.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Provide a file system of 8 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False).returncode:
        pytest.skip("no file systems can be mounted here")
    yield disk
    while subprocess.run(["umount", disk], check=False, capture_output=True).returncode:  # a process is still ending
        time.sleep(0.1)


def fill(disk: Path) -> Path:
    """Fill a disk to the last byte."""
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:  # noqa: PT012
        while True:
            file.write(bytes(4096))
    return filler
