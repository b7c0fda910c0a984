"""Warm-start settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from tfaip_like.params import Params
from tfaip_like.params._field_rules import Requires

_NEEDS_MODEL = Requires("model", "requires --warmstart.model")


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

    rename: Annotated[list[str], _NEEDS_MODEL] = []
    """Rules FROM->TO that rename weight paths of the source: encoder/->body/encoder/. FROM is a regular expression; TO
    may refer to its groups (\\1)."""

    include: Annotated[list[str], _NEEDS_MODEL] = []
    """Regular expressions; load only weights whose path in this model matches one. By default all."""

    exclude: Annotated[list[str], _NEEDS_MODEL] = []
    """Regular expressions; do not load weights whose path in this model matches one."""

    allow_partial: Annotated[bool, _NEEDS_MODEL] = False
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
