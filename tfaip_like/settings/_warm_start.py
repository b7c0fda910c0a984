"""Weights to begin with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tfaip_like.params import Params


class WarmStart(Params):
    """Weights to begin with, from an earlier training."""

    model: Path | None = None
    """A run's folder (its best model is taken), an export (runs/a/best), a checkpoint
    (runs/a/checkpoints/epoch_0003), a .keras file or JSON with lists of numbers (weights.json)."""

    rename: list[str] = []
    """FROM->TO for paths of weights that are called otherwise there: encoder/->body/encoder/. FROM is a
    regular expression, TO may name its groups (\\1)."""

    include: list[str] = []
    """Regular expressions: of the weights of this network, load only those whose path matches one."""

    exclude: list[str] = []
    """Regular expressions: do not load weights of this network whose path matches one."""

    allow_partial: bool = False
    """Begin even where weights were not found there, or have another shape; these stay random."""

    def check(self) -> None:
        for name in ("include", "exclude"):
            for pattern in getattr(self, name):
                self.require_regex(name, pattern)
        for rule in self.rename:
            pattern, arrow, replacement = rule.partition("->")
            self.require(bool(arrow), "rename", f"{rule!r}: write FROM->TO")
            self.require_regex("rename", pattern)
            try:
                re.sub(pattern, replacement, "")
            except (re.error, IndexError) as problem:
                self.require(False, "rename", f"{replacement!r} cannot replace anything: {problem}")

    def ignored_params(self) -> Mapping[str, str]:
        names = ("rename", "include", "exclude", "allow_partial")
        return {} if self.model is not None else dict.fromkeys(names, "there is no --warmstart.model to load")
