"""Networks in memory in place of an export, also rebuilt from the scenario's code."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfaip_like._export.layout import WEIGHTS, require_file
from tfaip_like._keras_ext.logits import LOGITS
from tfaip_like._keras_ext.lora import lora_weight_ids
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._utils.errors import UsageError
from tfaip_like.modeling._network import Networks, build_networks, reset_keras, select_inputs
from tfaip_like.scenario import Scenario


@dataclass(frozen=True)
class EagerNetwork:
    """Network in memory with the interface of an export; its layers run eagerly."""

    network: keras.Model

    def predict_with_logits(self, inputs: Mapping[str, Any]) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
        """Return the outputs for a batch and their logits, see `ExportedModel.predict_with_logits`."""
        with _without_gradients():
            outputs = self.network(select_inputs(inputs, self.network), training=False)
        logits = {
            f"{LOGITS}:{name}": out._keras_logits for name, out in outputs.items() if hasattr(out, "_keras_logits")
        }
        return {name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()}, logits


def _without_gradients() -> AbstractContextManager[Any]:
    """Return a context in which PyTorch keeps no intermediate values; other backends keep none by default."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    return importlib.import_module("torch").no_grad()  # type: ignore[no-any-return]


def build_eager_network(export: Path, scenario: Scenario) -> EagerNetwork:
    """Build the network of a scenario with the weights of an export.

    Raises:
        UsageError: If the weights do not match, because the code has changed.
    """
    try:
        return EagerNetwork(rebuild_networks(export, scenario).exported)
    except WeightMismatchError as error:
        raise WeightMismatchError(f"{error}; omit --run_eagerly to use the exported network") from error


class WeightMismatchError(UsageError):
    """Error for weights of an export that do not fit the network that the scenario's code builds."""


def rebuild_networks(export: Path, scenario: Scenario) -> Networks:
    """Build the networks of a scenario with the weights of an export.

    Raises:
        WeightMismatchError: If the weights do not match, because the code has changed.
    """
    policy = keras.config.dtype_policy()
    reset_keras(scenario.trainer.precision)
    try:
        networks = build_networks(scenario.model, scenario.data)
    finally:
        keras.config.set_dtype_policy(policy)
    merged = lora_weight_ids(networks.training)  # initially without effect
    with np.load(require_file(export, WEIGHTS), allow_pickle=False) as saved:
        for path, weight in weight_paths(networks.training).items():
            if id(weight) in merged:
                continue
            if path not in saved or saved[path].shape != tuple(weight.shape):
                actual = "is missing" if path not in saved else f"has shape {saved[path].shape}"
                raise WeightMismatchError(
                    f"{export / WEIGHTS}: {path} {actual}, but has shape {tuple(weight.shape)} in the network built by "
                    "the scenario's code"
                )
            weight.assign(saved[path])
    return networks
