"""`Exporter`: base class of the exporters of a network."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tfaip_like.params import Params

if TYPE_CHECKING:
    import keras

    from tfaip_like.data._sample import Arrays


@dataclass(frozen=True)
class ExportedNetwork:
    """Network to convert to another format.

    Example:
        >>> ExportedNetwork(keras=network, saved_model=Path("serve"), write_export=write)  # doctest: +SKIP
    """

    keras: keras.Model
    """The network in inference mode, with named inputs and outputs."""
    saved_model: Path
    """SavedModel of the network with the signature `serving_default`."""
    write_export: Callable[[keras.Model, Path], None]
    """Writes the export with another network of the same inputs and outputs into a directory, such as a compressed
    one."""


class Exporter(Params, abc.ABC):
    """Base class of exporters: they write the network of `best/` and `export/` in a further format.

    An exporter is chosen by flag (`--exporters ONNX`, `--exporters my_package:OpenVINO`) or in the class of a scenario
    (`exporters = [ONNX()]`). It runs at the end of a training. The outputs of what it has written are compared with
    those of the network; an exporter that raises is reported as a warning.

    Example:
        >>> class OpenVINO(Exporter):
        ...     filename = "openvino"
        ...     required_packages = ("openvino",)
        ...
        ...     def export(self, network, path):
        ...         import openvino
        ...
        ...         path.mkdir()
        ...         openvino.save_model(openvino.convert_model(network.saved_model), path / "network.xml")
        ...
        ...     def predict(self, path, inputs):
        ...         import openvino
        ...
        ...         compiled = openvino.compile_model(path / "network.xml")
        ...         return {tensor.any_name: value for tensor, value in compiled(inputs).items()}
    """

    plugin_group = "tfaip_like.exporters"

    foreign_name_hints = dict.fromkeys(("convert", "save", "write"), "override `export`")

    filename: ClassVar[str]
    """Name of the file or directory in the export."""
    required_packages: ClassVar[tuple[str, ...]] = ()
    """Modules that the exporter imports; training does not start if one is not installed."""
    extra: ClassVar[str] = ""
    """What to install if one is missing; by default its name."""

    @property
    def tolerance(self) -> float:
        """Return the largest difference from the outputs of the network, absolute plus relative."""
        return 1e-4

    @abc.abstractmethod
    def export(self, network: ExportedNetwork, path: Path) -> None:
        """Write a network.

        Args:
            network: the network.
            path: file or directory to write.
        """

    @abc.abstractmethod
    def predict(self, path: Path, inputs: Arrays) -> Mapping[str, Any]:
        """Return the outputs of an exported network by name, for the comparison with the network.

        Args:
            path: file or directory that `export` has written.
            inputs: batch of inputs by argument name of the signature `serving_default`, in which names that are not
                Python identifiers are changed (`my-input` is `my_input`).
        """
