"""Git state of the code of a run: commit and uncommitted changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._utils.code_origin import imported_user_files
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.processes import run_with_timeout
from tfaip_like._utils.temp_dirs import temporary_directory

GIT_STATE_FILENAME = ".git_state.json"
"""File at the root of copied code with the git state of the original."""


@dataclass(frozen=True)
class GitState:
    """Commit and uncommitted changes; both empty outside a repository."""

    commit: str | None = None
    diff: str = ""


GIT_STATE_FORMAT = FileFormat("git state", GitState)


def class_source_path(cls: type) -> Path | None:
    """Return the path of the module that defines a class, None if it has no file."""
    source = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return Path(source).resolve() if source else None


def read_git_state(source: Path) -> GitState:
    """Return the git state of the repository that contains a file, or that the file was copied from.

    The diff includes untracked modules: imported ones, and those in the same directories, which may be imported later.
    `git apply` restores the working tree from the commit and the diff.
    """
    for folder in source.parents:
        if os.path.lexists(folder / GIT_STATE_FILENAME):
            return GIT_STATE_FORMAT.read(folder / GIT_STATE_FILENAME)
    commit = _run_git(source.parent, "rev-parse", "HEAD")
    top = _run_git(source.parent, "rev-parse", "--show-toplevel").removesuffix("\n")
    if not commit or not top:
        return GitState()
    root = Path(top)
    untracked = _untracked_modules(root, [source, *imported_user_files()])
    return GitState(commit.strip(), _diff_including(root, untracked) if untracked else _run_git(root, *DIFF_COMMAND))


# `git apply` accepts the result independent of the user's configuration.
_APPLY_OPTIONS = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/")
DIFF_COMMAND = ("diff", *_APPLY_OPTIONS, "--binary", "HEAD")
MAX_MODULE_BYTES = 1_000_000
"""Maximum size of an untracked module; larger files are data."""


def _untracked_modules(root: Path, imported: Iterable[Path]) -> list[str]:
    """Return the untracked modules of a repository, as paths relative to its root."""
    files = {path for file in imported if (path := file.resolve()).is_relative_to(root)}
    siblings = {path for folder in {file.parent for file in files} for path in folder.glob("*.py")} - files
    untracked = {
        *_list_untracked(root, files),  # also ignored ones, because they are imported
        *_list_untracked(root, siblings, "--exclude-standard"),
    }
    return sorted(path for path in untracked if (root / path).stat().st_size <= MAX_MODULE_BYTES)


def _list_untracked(root: Path, files: Iterable[Path], *options: str) -> list[str]:
    words = [str(file.relative_to(root)) for file in files]
    if not words:
        return []
    listed = _run_git(root, "--literal-pathspecs", "ls-files", "-z", "--others", *options, "--", *words)
    return [path for path in listed.split("\0") if path]


def _diff_including(root: Path, untracked: Sequence[str]) -> str:
    """Return the diff to the last commit including untracked files, without changing the user's index."""
    with temporary_directory() as folder:
        index = folder / "index"
        try:
            # With its modification time, by which git detects files changed within the same second.
            shutil.copy2(root / _run_git(root, "rev-parse", "--git-path", "index").strip(), index)
        except OSError:  # no index yet
            return _run_git(root, *DIFF_COMMAND)
        _run_git(root, "--literal-pathspecs", "add", "--intent-to-add", "--force", "--", *untracked, index=index)
        return _run_git(root, *DIFF_COMMAND, index=index)


def _run_git(folder: Path, *words: str, index: Path | None = None) -> str:
    """Return the output of a git command in a folder; an empty string if it fails."""
    environment = [] if index is None else ["env", f"GIT_INDEX_FILE={index}"]
    try:
        done = run_with_timeout(20, *environment, "git", "-C", str(folder), *words)
    except (OSError, subprocess.SubprocessError):  # git is not installed, or timed out
        return ""
    return "" if done.returncode else done.stdout.decode("utf-8", "surrogateescape")
