"""Compute device settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from tfaip_like.params import Params
from tfaip_like.params._field_rules import TensorFlowOnly, field_rules


def _default_backend() -> Any:
    return os.environ.get("KERAS_BACKEND", "tensorflow")


class Device(Params):
    """Compute devices and the Keras backend.

    Example:
        >>> Device(gpus=[0, 1])
        Device(gpus=[0, 1])
    """

    search_words = {
        "gpus": "devices accelerator cuda gpu",
        "backend": "keras_backend framework",
        "compilation_cache": "jax_compilation_cache_dir persistent_cache",
        "dist_strategy": "strategy distribute distribution data_parallel",
    }

    backend: Literal["tensorflow", "jax", "torch"] = field(default_factory=_default_backend)
    """Keras backend; by default the environment variable KERAS_BACKEND, else tensorflow. To install jax or
    torch: pip install 'tfaip_like[jax]'."""

    gpus: list[int] | None = None
    """Indices of the GPUs to use, counted from 0 among those visible in CUDA_VISIBLE_DEVICES; -1 uses the CPU.
    By default the first visible GPU."""

    dist_strategy: Annotated[Literal["default", "mirror"], TensorFlowOnly()] = "default"
    """GPUs to use without --device.gpus (tensorflow only): mirror uses all, default only the first. Several GPUs split
    each batch among them, so the batch size must be divisible by their number."""

    soft_placement: Annotated[bool, TensorFlowOnly()] = True
    """Fall back to the CPU for operations without a GPU kernel."""

    compilation_cache: bool = True
    """Store compiled programs in the user's cache directory, so that a resumed or repeated run need not compile them
    again (jax only)."""

    def ignored_params(self) -> Mapping[str, str]:
        if self.backend == "tensorflow":
            return {"compilation_cache": "requires the jax backend, not tensorflow"}
        reasons = (
            {} if self.backend == "jax" else {"compilation_cache": f"requires the jax backend, not {self.backend}"}
        )
        return reasons | dict.fromkeys(
            field_rules(type(self), TensorFlowOnly), f"requires the tensorflow backend, not {self.backend}"
        )

    def check(self) -> None:
        gpus = self.gpus or []
        self.require(len(set(gpus)) == len(gpus), "gpus", "must not contain duplicates")
        self.require(
            gpus == [-1] or all(gpu >= 0 for gpu in gpus), "gpus", "indices must be 0 or larger; -1 alone uses the CPU"
        )
