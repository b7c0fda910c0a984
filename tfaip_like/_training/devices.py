"""Which devices compute: chosen once, before anything is placed on them."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.lazy_keras import set_variable
from tfaip_like._utils.operating_system import num_usable_cpus
from tfaip_like.settings import Device

logger = logging.getLogger(__name__)

BACKEND_PACKAGES = {
    "tensorflow": ("TensorFlow", "tensorflow[and-cuda]"),
    "jax": ("JAX", "jax[cuda12]"),
    "torch": ("PyTorch", "torch"),
}
"""Name of a Keras backend -> its own name, and what to install for GPUs."""


@dataclass(frozen=True)
class Devices:
    """What computes; its text is for the log."""

    gpus: Mapping[int, str]
    """Number of each GPU that computes -> its kind; in the order asked for. Empty on the CPU."""
    num_available: int
    """How many GPUs there are."""
    threads: int
    """Threads of the CPU."""
    advice: str = ""
    """What is probably wrong."""
    kind: str = "GPU"
    """What TensorFlow calls them."""

    @property
    def names(self) -> list[str]:
        """What TensorFlow, which has seen no others, calls each of `gpus`."""
        return [f"{self.kind}:{number}" for number in range(len(self.gpus))]

    def log_summary(self) -> None:
        """Says in the log what computes."""
        logger.info("Using %s.", self)
        if self.advice:
            logger.warning("%s", self.advice)

    def __str__(self) -> str:
        if not self.gpus:
            unused = f", none of {pluralize(self.num_available, 'GPU')}" if self.num_available else ""
            return f"CPU ({pluralize(self.threads, 'thread')}){unused}"
        kinds = " and ".join(dict.fromkeys(self.gpus.values()))
        numbers = " and ".join(map(str, self.gpus))
        return (
            f"GPU{'s' if len(self.gpus) > 1 else ''} {numbers} ({kinds}), {len(self.gpus)} of {self.num_available} GPUs"
        )


def configure_devices(device: Device) -> Devices:
    """Makes the backend compute on what was asked for; before anything else touches a device.

    Asked again for the same, in the same process, it changes nothing.

    Raises:
        UsageError: for a GPU that is not there, and when the backend has settled on others already.
    """
    library = {"tensorflow": _TensorFlowBackend, "jax": _JaxBackend, "torch": _TorchBackend}[device.backend]()
    present = library.gpus()
    chosen = select_gpus(device, present, library.visible())
    library.configure(chosen, device)
    advice = ""
    if not present and device.gpus is None and _has_unmasked_nvidia_gpu():
        name, package = BACKEND_PACKAGES[device.backend]
        advice = f"there is a GPU from NVIDIA, but {name} does not find it; pip install '{package}' brings CUDA"
    return Devices({number: present[number] for number in chosen}, len(present), library.threads(), advice)


def select_gpus(device: Device, present: Sequence[str], visible: Sequence[int] | None = None) -> list[int]:
    """The numbers of the GPUs that compute.

    Args:
        device: what was asked for.
        present: the kind of each GPU that is there.
        visible: those that may be chosen when none was asked for; by default all.

    Raises:
        UsageError: for a GPU that is not there, or for more than the backend can use.
    """
    if device.gpus == [-1]:
        return []
    several = device.dist_strategy == "mirror"
    if device.gpus is None:
        free = list(range(len(present)) if visible is None else visible)
        chosen = free if several else free[:1]
    else:
        chosen = list(device.gpus)
    for number in chosen:
        if number >= len(present):
            raise UsageError(_gpu_not_found_message(number, len(present), device.backend))
    if len(chosen) > 1 and device.backend != "tensorflow":
        name, _ = BACKEND_PACKAGES[device.backend]
        raise UsageError(f"--device.gpus {' '.join(map(str, chosen))}: {name} trains on one GPU here; name one of them")
    return chosen


def _gpu_not_found_message(number: int, present: int, backend: str) -> str:
    name, package = BACKEND_PACKAGES[backend]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    hides = f"; CUDA_VISIBLE_DEVICES is {hidden!r} and hides all others" if hidden is not None else ""
    if present == 1:
        return f"--device.gpus {number}: there is 1 GPU, and its number is 0{hides}"
    if present:
        return f"--device.gpus {number}: there are {present} GPUs, numbered from 0 to {present - 1}{hides}"
    return (
        f"--device.gpus {number}: {name} finds no GPU{hides}\n"
        f"If there is one, {name} may be without CUDA: pip install '{package}'"
    )


def _has_unmasked_nvidia_gpu() -> bool:
    return Path("/dev/nvidia0").exists() and "CUDA_VISIBLE_DEVICES" not in os.environ


class _TensorFlowBackend:
    def __init__(self, kind: str = "GPU") -> None:
        self.tf: Any = importlib.import_module("tensorflow")
        self.kind = kind
        self.physical = self.tf.config.list_physical_devices(kind)

    def gpus(self) -> list[str]:
        details = map(self.tf.config.experimental.get_device_details, self.physical)
        return [detail.get("device_name", "of unknown kind") for detail in details]

    def visible(self) -> list[int]:
        """What the user's own code may have left."""
        return [self.physical.index(gpu) for gpu in self.tf.config.get_visible_devices(self.kind)]

    def configure(self, chosen: Sequence[int], device: Device) -> None:
        self.tf.config.set_soft_device_placement(device.soft_placement)
        gpus = [self.physical[number] for number in chosen]
        try:
            self.tf.config.set_visible_devices(gpus, self.kind)
        except RuntimeError as error:
            # Where nothing was asked for, it computes on its first one as it is.
            if device.gpus is not None:
                raise UsageError(_devices_initialized_message(device)) from error
        with contextlib.suppress(RuntimeError, ValueError):  # likewise, or the user's code has limited the memory
            for gpu in gpus:
                self.tf.config.experimental.set_memory_growth(gpu, True)

    def threads(self) -> int:
        return self.tf.config.threading.get_intra_op_parallelism_threads() or num_usable_cpus()


class _JaxBackend:
    def __init__(self, kind: str = "gpu") -> None:
        # Or it takes most of the memory of every GPU that it sees.
        if "XLA_PYTHON_CLIENT_PREALLOCATE" not in os.environ:
            set_variable("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        self.jax: Any = importlib.import_module("jax")
        try:
            self.devices = self.jax.devices(kind)
        except RuntimeError:
            self.devices = []

    def gpus(self) -> list[str]:
        return [gpu.device_kind for gpu in self.devices]

    def visible(self) -> None:
        return None

    def configure(self, chosen: Sequence[int], device: Device) -> None:
        _hide_gpus_from_tensorflow()
        if chosen:
            self.jax.config.update("jax_default_device", self.devices[chosen[0]])
        elif device.gpus == [-1]:
            self.jax.config.update("jax_default_device", self.jax.devices("cpu")[0])

    def threads(self) -> int:
        return num_usable_cpus()


class _TorchBackend:
    def __init__(self) -> None:
        self.torch: Any = importlib.import_module("torch")

    def gpus(self) -> list[str]:
        return [self.torch.cuda.get_device_name(number) for number in range(self.torch.cuda.device_count())]

    def visible(self) -> None:
        return None

    def configure(self, chosen: Sequence[int], device: Device) -> None:
        _hide_gpus_from_tensorflow()
        if chosen:
            self.torch.cuda.set_device(chosen[0])
        elif device.gpus == [-1] and self.torch.cuda.is_available():
            if "keras.src.backend.torch" in sys.modules and os.environ.get("KERAS_TORCH_DEVICE") != "cpu":
                raise UsageError(
                    "--device.gpus -1: Keras has chosen a GPU already; set the environment variable "
                    "KERAS_TORCH_DEVICE=cpu instead"
                )
            os.environ["KERAS_TORCH_DEVICE"] = "cpu"

    def threads(self) -> int:
        return int(self.torch.get_num_threads())


def _hide_gpus_from_tensorflow() -> None:
    """On another backend TensorFlow only exports; it would take the memory of the GPUs."""
    with contextlib.suppress(RuntimeError):
        importlib.import_module("tensorflow").config.set_visible_devices([], "GPU")


def _devices_initialized_message(device: Device) -> str:
    words = " ".join(map(str, device.gpus or []))
    return (
        f"--device.gpus {words}: TensorFlow has computed something in this process already and keeps its devices.\n"
        f"Make no tensor before, or set the environment variable CUDA_VISIBLE_DEVICES={','.join(words.split())}."
    )
