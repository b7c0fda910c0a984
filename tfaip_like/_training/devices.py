"""Selection of compute devices, before anything is placed on one."""

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

from tfaip_like._training.compilation_cache import enable_compilation_cache
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
"""Display name of each Keras backend, and the package to install for GPU support."""


@dataclass(frozen=True)
class Devices:
    """Compute devices of a process.

    Example:
        >>> str(Devices(gpus={0: "NVIDIA H100"}, num_available=2, threads=8))
        'GPU 0 (NVIDIA H100), 1 of 2 GPUs'
    """

    gpus: Mapping[int, str]
    """Model of each GPU in use by its number, in the requested order; empty on CPU."""
    num_available: int
    """Number of available GPUs."""
    threads: int
    """CPU threads."""
    advice: str = ""
    """Warning about a probable misconfiguration; empty if there is none."""
    kind: str = "GPU"
    """TensorFlow's device type."""

    @property
    def names(self) -> list[str]:
        """Return TensorFlow's names of `gpus`, the only ones visible to it."""
        return [f"{self.kind}:{number}" for number in range(len(self.gpus))]

    def log_summary(self) -> None:
        """Log the devices in use, and the advice."""
        logger.info("Using %s.", self)
        if self.advice:
            logger.warning("%s", self.advice)

    def __str__(self) -> str:
        if not self.gpus:
            unused = f", 0 of {pluralize(self.num_available, 'GPU')}" if self.num_available else ""
            return f"CPU ({pluralize(self.threads, 'thread')}){unused}"
        kinds = " and ".join(dict.fromkeys(self.gpus.values()))
        numbers = " and ".join(map(str, self.gpus))
        return (
            f"GPU{'s' if len(self.gpus) > 1 else ''} {numbers} ({kinds}), {len(self.gpus)} of {self.num_available} GPUs"
        )


def configure_devices(device: Device) -> Devices:
    """Configure the backend for the requested devices; call this before anything else touches a device.

    Repeated calls with the same settings change nothing.

    Args:
        device: device settings.

    Raises:
        UsageError: if a GPU does not exist, or the backend has already initialized other devices.
    """
    library = {"tensorflow": _TensorFlowBackend, "jax": _JaxBackend, "torch": _TorchBackend}[device.backend]()
    available = library.gpus()
    chosen = select_gpus(device, available, library.visible())
    library.configure(chosen, device)
    advice = ""
    if not available and device.gpus is None and _has_unmasked_nvidia_gpu():
        name, package = BACKEND_PACKAGES[device.backend]
        advice = f"this machine has an NVIDIA GPU, but {name} does not find it; pip install '{package}' adds CUDA"
    return Devices({number: available[number] for number in chosen}, len(available), library.threads(), advice)


def select_gpus(device: Device, available: Sequence[str], visible: Sequence[int] | None = None) -> list[int]:
    """Return the numbers of the GPUs to use.

    Args:
        device: device settings.
        available: model of each available GPU.
        visible: numbers of the GPUs to choose from by default; None means all.

    Raises:
        UsageError: if a GPU does not exist, or the backend supports fewer GPUs.
    """
    if device.gpus == [-1]:
        return []
    if device.gpus is None:
        candidates = list(range(len(available)) if visible is None else visible)
        chosen = candidates if device.dist_strategy == "mirror" else candidates[:1]
    else:
        chosen = list(device.gpus)
    for number in chosen:
        if number >= len(available):
            raise UsageError(_gpu_not_found_message(number, len(available), device.backend))
    if len(chosen) > 1 and device.backend != "tensorflow":
        name, _ = BACKEND_PACKAGES[device.backend]
        raise UsageError(
            f"--device.gpus {' '.join(map(str, chosen))}: training on {name} supports a single GPU; choose one"
        )
    return chosen


def _gpu_not_found_message(number: int, num_available: int, backend: str) -> str:
    name, package = BACKEND_PACKAGES[backend]
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    hint = f"; CUDA_VISIBLE_DEVICES is {mask!r} and hides all others" if mask is not None else ""
    if num_available == 1:
        return f"--device.gpus {number}: the only GPU is number 0{hint}"
    if num_available:
        return f"--device.gpus {number}: no such GPU; available: 0 to {num_available - 1}{hint}"
    return (
        f"--device.gpus {number}: {name} finds no GPU{hint}\n"
        f"If this machine has one, {name} may lack CUDA support: pip install '{package}'"
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
        """Return the GPUs that are visible; user code may have hidden some."""
        return [self.physical.index(gpu) for gpu in self.tf.config.get_visible_devices(self.kind)]

    def configure(self, chosen: Sequence[int], device: Device) -> None:
        self.tf.config.set_soft_device_placement(device.soft_placement)
        gpus = [self.physical[number] for number in chosen]
        try:
            self.tf.config.set_visible_devices(gpus, self.kind)
        except RuntimeError as error:
            # By default TensorFlow keeps the devices that it has already initialized.
            if device.gpus is not None:
                raise UsageError(_devices_initialized_message(device)) from error
        with contextlib.suppress(RuntimeError, ValueError):  # likewise, or user code has limited the memory
            for gpu in gpus:
                self.tf.config.experimental.set_memory_growth(gpu, True)

    def threads(self) -> int:
        return self.tf.config.threading.get_intra_op_parallelism_threads() or num_usable_cpus()


class _JaxBackend:
    def __init__(self, kind: str = "gpu") -> None:
        # By default JAX allocates most of the memory of every visible GPU.
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
        if device.compilation_cache:
            enable_compilation_cache(self.jax)
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
                    "--device.gpus -1: Keras has already initialized a GPU; set the environment variable "
                    "KERAS_TORCH_DEVICE=cpu instead"
                )
            os.environ["KERAS_TORCH_DEVICE"] = "cpu"

    def threads(self) -> int:
        return int(self.torch.get_num_threads())


def _hide_gpus_from_tensorflow() -> None:
    """Hide GPUs from TensorFlow, which only exports on other backends, but would allocate their memory."""
    with contextlib.suppress(RuntimeError):
        importlib.import_module("tensorflow").config.set_visible_devices([], "GPU")


def _devices_initialized_message(device: Device) -> str:
    gpus = [str(number) for number in device.gpus or []]
    return (
        f"--device.gpus {' '.join(gpus)}: TensorFlow has already initialized its devices in this process.\n"
        f"Create no tensors before training, or set the environment variable CUDA_VISIBLE_DEVICES={','.join(gpus)}."
    )
