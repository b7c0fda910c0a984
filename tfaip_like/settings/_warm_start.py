"""Warm-start settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tfaip_like.params import Params


class WarmStart(Params):
    """Initial weights from an earlier training run.

    Example:
        >>> WarmStart(model="runs/a", rename=["encoder/->body/encoder/"], allow_partial=True)
        WarmStart(model='runs/a', rename=['encoder/->body/encoder/'], allow_partial=True)
    """

    search_words = {
        "model": "pretrained init_from ckpt_path load_weights restore_from finetune",
        "allow_partial": "strict skip_mismatch",
    }

    model: Path | None = None
    """Source of the weights: a run directory (its best model), an export (runs/a/best), a checkpoint
    (runs/a/checkpoints/epoch_0003), a .keras file, or JSON with nested lists of numbers (weights.json)."""

    rename: list[str] = []
    """Rules FROM->TO that rename weight paths of the source: encoder/->body/encoder/. FROM is a regular expression; TO
    may refer to its groups (\\1)."""

    include: list[str] = []
    """Regular expressions; load only weights whose path in this model matches one. By default all."""

    exclude: list[str] = []
    """Regular expressions; do not load weights whose path in this model matches one."""

    allow_partial: bool = False
    """Keep the initial values of weights that the source lacks or has in another shape, instead of failing."""

    def check(self) -> None:
        for name in ("include", "exclude"):
            for pattern in getattr(self, name):
                self.require_regex(name, pattern)
        for rule in self.rename:
            pattern, arrow, replacement = rule.partition("->")
            self.require(bool(arrow), "rename", f"{rule!r}: expected FROM->TO")
            self.require_regex("rename", pattern)
            try:
                re.sub(pattern, replacement, "")
            except (re.error, IndexError) as problem:
                self.require(False, "rename", f"{replacement!r} is not a valid replacement: {problem}")

    def ignored_params(self) -> Mapping[str, str]:
        names = ("rename", "include", "exclude", "allow_partial")
        return {} if self.model is not None else dict.fromkeys(names, "requires --warmstart.model")
