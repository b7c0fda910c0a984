"""The state of a repository that a run keeps: its commit, and all code that is not in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

SHOW = """
import sys
import mine.scenario
from pathlib import Path
from tfaip_like._runs.git import read_git_state
state = read_git_state(Path(mine.scenario.__file__).resolve())
sys.stdout.buffer.write(state.diff.encode("utf-8", "surrogateescape"))
print(state.commit, file=sys.stderr)
"""


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "the repository"
    (folder / "mine").mkdir(parents=True)
    git(tmp_path, "init", "-q", str(folder))
    git(folder, "config", "user.email", "a@b.c")
    git(folder, "config", "user.name", "a")
    # What a user may have set for their own eyes.
    for name in ("diff.noprefix", "diff.relative"):
        git(folder, "config", name, "true")
    (folder / "mine" / "__init__.py").touch()
    (folder / "mine" / "tracked.py").write_text("VALUE = 1\n")
    (folder / ".gitignore").write_text("ignored*.py\n__pycache__\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def changes(repository: Path) -> bytes:
    """Return the stored state of a run that imports `mine.scenario`."""
    path = os.pathsep.join([str(repository), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=True,
    )
    assert done.stderr.decode().strip() == git(repository, "rev-parse", "HEAD").strip()
    return done.stdout


def test_the_changes_hold_modules_that_are_not_in_the_repository_and_can_be_applied(
    repository: Path, tmp_path: Path
) -> None:
    package = repository / "mine"
    (package / "scenario.py").write_text("from mine import helper, ignored_too, tracked\nimport top_level\n")
    (package / "tracked.py").write_text("VALUE = 2  # \u00fc\n")
    (package / "helper.py").write_text("A = 1")
    (package / "ignored_too.py").write_text("B = 1\n")
    (package / "ignored_unused.py").write_text("never imported\n")
    (package / "imported later [1].py").write_bytes(b"# latin-1: \xfc\n")
    (repository / "top_level.py").write_text("C = 1\n")
    (package / "data.csv").write_text("1\n")
    (repository / "elsewhere").mkdir()
    (repository / "elsewhere" / "other.py").write_text("D = 1\n")
    before = git(repository, "status", "--porcelain", "--ignored")
    diff = changes(repository)
    assert git(repository, "status", "--porcelain", "--ignored") == before
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    subprocess.run(["git", "-C", clone, "apply"], input=diff, check=True)
    kept = {path.relative_to(clone) for path in clone.rglob("*.py")}
    assert {str(path) for path in kept} == {
        "mine/__init__.py",
        *(f"mine/{name}.py" for name in ("scenario", "tracked", "helper", "ignored_too", "imported later [1]")),
        "top_level.py",
    }
    assert all((clone / path).read_bytes() == (repository / path).read_bytes() for path in kept)


def test_committed_code_has_no_changes(repository: Path) -> None:
    (repository / "mine" / "scenario.py").write_text("from mine import tracked\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "second")
    assert changes(repository) == b""
