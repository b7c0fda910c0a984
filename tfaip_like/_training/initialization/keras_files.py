"""Readers of Keras' weight files, which number the weights of a layer instead of naming them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import keras
import numpy as np
import numpy.typing as npt

from tfaip_like._keras_ext.lora import merge_lora
from tfaip_like._keras_ext.paths import join_path, keras_layer_paths, weight_paths

Array = npt.NDArray[Any]
Entry: TypeAlias = "Array | str"
"""Value of a weight in a file, or the reason why it cannot be read."""


def read_model_file(file: Path) -> Iterator[tuple[str, Entry]]:
    """Yield the numbered paths (`encoder/dense/0`) and values of the weights in a `.keras` file.

    Raises:
        ValueError: if the archive contains no weights.
    """
    with zipfile.ZipFile(file) as archive:
        if "model.weights.h5" not in archive.namelist():
            raise ValueError("the archive contains no model.weights.h5")
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as h5:
            yield from _iter_weights(h5)


def read_weights_file(file: Path) -> Iterator[tuple[str, Entry]]:
    """Yield the numbered paths and values of the weights in a `.weights.h5` file."""
    with h5py.File(file, "r") as h5:
        yield from _iter_weights(h5)


def numbered_paths(network: keras.Model) -> dict[str, str]:
    """Return the name of each weight in Keras' files by its path, `encoder/dense/0` for `encoder/dense/kernel`."""
    paths = {id(weight): path for path, weight in weight_paths(network).items()}
    numbered: dict[str, str] = {}
    with merge_lora(network):  # otherwise Keras stores new tensors instead of the weights
        for layer_path, layer in {"": network, **keras_layer_paths(network)}.items():
            store: dict[str, Any] = {}
            layer.save_own_variables(store)
            for number, weight in store.items():
                if id(weight) in paths:
                    numbered.setdefault(paths[id(weight)], join_path(layer_path, number))
    return numbered


def _iter_weights(h5: h5py.File) -> Iterator[tuple[str, Entry]]:
    # Groups of layers are named after attributes and classes (layers/functional/layers/dense_1). The name of a layer
    # is an attribute of its group `vars`, which contains its weights (vars/0).
    layers: dict[str, str] = {}
    weights: dict[str, h5py.Dataset] = {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        parent, _, name = path.rpartition("/")
        if isinstance(item, h5py.Dataset):
            weights[path] = item
        elif name == "vars" and parent:
            layers[parent] = str(item.attrs.get("name", parent.rpartition("/")[2]))

    h5.visititems(visit)  # does not follow links to other files
    for path, dataset in weights.items():
        *groups, _, number = path.split("/")
        parents = ("/".join(groups[:depth]) for depth in range(1, len(groups) + 1))
        if groups[:1] != ["optimizer"]:
            yield "/".join([*(layers[group] for group in parents if group in layers), number]), _read_dataset(dataset)


def _read_dataset(dataset: h5py.Dataset) -> Entry:
    if dataset.external or dataset.is_virtual:
        return f"{dataset.name}: its values are in another file, which is not read"
    if not is_numeric(dataset):
        return f"{dataset.name}: expected numbers, got an array of dtype {dataset.dtype}"
    return np.asarray(dataset[()])


def is_numeric(array: Array | h5py.Dataset) -> bool:
    """Return whether an array contains numbers."""
    return array.dtype.kind in "biufc"
