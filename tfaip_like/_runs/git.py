"""State of the repository that code lies in: its commit, and what is not in that commit."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._utils.code_origin import imported_user_files
from tfaip_like._utils.processes import run_with_timeout
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like._utils.typed_json import read_typed_json

GIT_STATE_FILENAME = ".git_state.json"
"""A file at the top of copied code, with the state of the repository that it was copied from."""


@dataclass(frozen=True)
class GitState:
    """Commit and uncommitted changes; nothing where there is no repository."""

    commit: str | None = None
    diff: str = ""


def class_source_path(cls: type) -> Path | None:
    """Return the file that a class is written in."""
    source = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return Path(source).resolve() if source else None


def read_git_state(source: Path) -> GitState:
    """Return the state of the repository that a file lies in, or was copied from.

    The changes include modules that are not in the repository: those that are imported, and others in their folders,
    which may be imported later. `git apply` makes the working tree from the commit and the changes.
    """
    for folder in source.parents:
        if (folder / GIT_STATE_FILENAME).exists():
            return read_typed_json(GitState, folder / GIT_STATE_FILENAME)
    commit = _run_git(source.parent, "rev-parse", "HEAD")
    top = _run_git(source.parent, "rev-parse", "--show-toplevel").removesuffix("\n")
    if not commit or not top:
        return GitState()
    root = Path(top)
    untracked = _untracked_modules(root, [source, *imported_user_files()])
    return GitState(commit.strip(), _diff_including(root, untracked) if untracked else _run_git(root, *DIFF_COMMAND))


# Whatever the user's configuration says, `git apply` takes it.
_APPLY_OPTIONS = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/")
DIFF_COMMAND = ("diff", *_APPLY_OPTIONS, "--binary", "HEAD")
MAX_MODULE_BYTES = 1_000_000
"""Bytes; a larger file is data."""


def _untracked_modules(root: Path, imported: Iterable[Path]) -> list[str]:
    """Return the modules below the root of a repository that are not in it, as paths from there."""
    files = {path for file in imported if (path := file.resolve()).is_relative_to(root)}
    beside = {path for folder in {file.parent for file in files} for path in folder.glob("*.py")} - files
    found = {
        *_list_untracked(root, files),  # also if they are ignored: they take part
        *_list_untracked(root, beside, "--exclude-standard"),
    }
    return sorted(path for path in found if (root / path).stat().st_size <= MAX_MODULE_BYTES)


def _list_untracked(root: Path, files: Iterable[Path], *options: str) -> list[str]:
    words = [str(file.relative_to(root)) for file in files]
    if not words:
        return []
    listed = _run_git(root, "--literal-pathspecs", "ls-files", "-z", "--others", *options, "--", *words)
    return [path for path in listed.split("\0") if path]


def _diff_including(root: Path, untracked: Sequence[str]) -> str:
    """Return the changes to the last commit if these files were added to it; the index of the user stays as it is."""
    with temporary_directory() as folder:
        index = folder / "index"
        try:
            # With its time: git tells by that which files may have changed in the same second.
            shutil.copy2(root / _run_git(root, "rev-parse", "--git-path", "index").strip(), index)
        except OSError:  # nothing was ever added
            return _run_git(root, *DIFF_COMMAND)
        _run_git(root, "--literal-pathspecs", "add", "--intent-to-add", "--force", "--", *untracked, index=index)
        return _run_git(root, *DIFF_COMMAND, index=index)


def _run_git(folder: Path, *words: str, index: Path | None = None) -> str:
    """Return what git says about a folder; nothing if it fails."""
    environment = [] if index is None else ["env", f"GIT_INDEX_FILE={index}"]
    try:
        done = run_with_timeout(20, *environment, "git", "-C", str(folder), *words)
    except (OSError, subprocess.SubprocessError):  # no git
        return ""
    return "" if done.returncode else done.stdout.decode("utf-8", "surrogateescape")
