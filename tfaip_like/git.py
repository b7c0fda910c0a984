"""The state of the repository that code lies in: its commit, and what is not in that commit."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tfaip_like.processes import run_within
from tfaip_like.records import read_record

COPIED = ".git_state.json"
"""A file at the top of copied code, with the state of the repository that it was copied from."""


@dataclass(frozen=True)
class GitState:
    """Commit and uncommitted changes; nothing where there is no repository."""

    commit: str | None = None
    diff: str = ""


def source_file(cls: type) -> Path | None:
    """The file that a class is written in."""
    source = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return Path(source).resolve() if source else None


def git_state(source: Path) -> GitState:
    """The state of the repository that a file lies in, or was copied from."""
    for folder in source.parents:
        if (folder / COPIED).exists():
            return read_record(GitState, folder / COPIED)
    commit = _git(source.parent, "rev-parse", "HEAD")
    if not commit:
        return GitState()
    diff = ("diff", "--no-ext-diff", "--no-color", "--binary")
    changes = _git(source.parent, *diff, "HEAD")
    if not _git(source.parent, "ls-files", "--", source.name):
        # Not yet in the repository: the most interesting file of all.
        changes += _git(source.parent, *diff, "--no-index", "--", os.devnull, source.name)
    return GitState(commit.strip(), changes)


def _git(folder: Path, *words: str) -> str:
    try:
        done = run_within(20, "git", "-C", str(folder), *words)
    except (OSError, subprocess.SubprocessError):  # no git
        return ""
    # 128: no repository; 1: `diff --no-index` has found differences.
    return "" if done.returncode > 1 else done.stdout.decode("utf-8", errors="replace")
