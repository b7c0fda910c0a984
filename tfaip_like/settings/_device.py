"""What computes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from tfaip_like.params import Params


def _default_backend() -> Any:
    return os.environ.get("KERAS_BACKEND", "tensorflow")


class Device(Params):
    """What computes."""

    backend: Literal["tensorflow", "jax", "torch"] = field(default_factory=_default_backend)
    """The library under Keras; by default that of the environment variable KERAS_BACKEND, else
    tensorflow. jax and torch must be installed: pip install 'tfaip_like[jax]'."""

    gpus: list[int] | None = None
    """Numbers of the GPUs to use, counted from 0 among those that CUDA_VISIBLE_DEVICES shows; none of
    them: -1. By default the first one that is there."""

    dist_strategy: Literal["default", "mirror"] = "default"
    """With several GPUs, each trains on its part of each batch (tensorflow only; the batch size must be a
    multiple of their number). mirror takes all GPUs where none are named; the default takes the first."""

    soft_placement: bool = True
    """Fall back to the CPU for operations that a GPU cannot compute."""

    def ignored_params(self) -> Mapping[str, str]:
        if self.backend == "tensorflow":
            return {}
        return dict.fromkeys(
            ("dist_strategy", "soft_placement"), f"it is for tensorflow, and the backend is {self.backend}"
        )

    def check(self) -> None:
        gpus = self.gpus or []
        self.require(len(set(gpus)) == len(gpus), "gpus", "names a GPU twice")
        self.require(
            gpus == [-1] or all(gpu >= 0 for gpu in gpus), "gpus", "GPUs are numbered from 0; -1 alone is none"
        )
