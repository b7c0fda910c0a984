"""Use of the devices by a training: peak memory, and the share of the peak FLOP/s (MFU)."""

from __future__ import annotations

import importlib
import logging
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras

from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.devices import Devices
from tfaip_like._training.steps.program_cost import ProgramCost, estimate_temporary_bytes
from tfaip_like._training.steps.training_model import to_model_inputs
from tfaip_like._training.variables import nbytes
from tfaip_like._utils.errors import format_bytes
from tfaip_like._utils.operating_system import get_memory_bytes
from tfaip_like._utils.processes import peak_resident_memory_mb

logger = logging.getLogger(__name__)

MATRIX_SIZES = {"gpu": 8192, "cpu": 1024}
"""Size of the square matrices whose product measures the peak FLOP/s."""
NUM_PRODUCTS = 4
"""Products to measure, of which the fastest counts; the first one also loads the library."""


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of the GPU in use that has used the most."""

    peak_bytes: int
    limit_bytes: int | None
    """Memory that the process may use; None if the backend does not report it."""


def read_device_memory(devices: Devices) -> DeviceMemory | None:
    """Return the memory of the GPUs in use; None on a CPU.

    Args:
        devices: compute devices.
    """
    if not devices.gpus:
        return None
    backend = keras.backend.backend()
    library: Any = importlib.import_module(backend)
    if backend == "tensorflow":
        infos = [library.config.experimental.get_memory_info(name) for name in devices.names]
        return DeviceMemory(max(info["peak"] for info in infos), None)
    if backend == "jax":
        stats = (library.config.jax_default_device or library.devices()[0]).memory_stats() or {}
        return DeviceMemory(stats.get("peak_bytes_in_use", 0), stats.get("bytes_limit"))
    return DeviceMemory(library.cuda.max_memory_allocated(), library.cuda.mem_get_info()[1])


def free_memory_bytes(devices: Devices) -> int | None:
    """Return the memory that a training may use on its device; None if unknown."""
    memory = read_device_memory(devices)
    return get_memory_bytes()[1] if memory is None else memory.limit_bytes


def measure_peak_flops(on_gpu: bool) -> float:
    """Return the FLOP/s of a large matrix product on the device, in the precision of the layers.

    Args:
        on_gpu: whether the device is a GPU, for which larger matrices are needed.
    """
    size = MATRIX_SIZES["gpu" if on_gpu else "cpu"]
    matrix = keras.ops.ones((size, size), keras.config.dtype_policy().compute_dtype)
    seconds = []
    for _ in range(NUM_PRODUCTS):
        start = time.perf_counter()
        element = keras.ops.matmul(matrix, matrix)[0, 0]
        # Waits for the device; NumPy has no bfloat16.
        keras.ops.convert_to_numpy(keras.ops.cast(element, "float32"))
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds)


class DeviceUsage:
    """Measurement of what a training uses of its devices.

    Args:
        components: components of the run.
    """

    def __init__(self, components: TrainingComponents):
        self._components = components
        self._cost = ProgramCost()
        self._estimated_max: int | None = None

    def analyze(self) -> None:
        """Analyze the program of the training step, and log an estimate of its memory."""
        components = self._components
        example = to_model_inputs(components.example)
        try:
            self._cost = components.step.analyze(example, components.feed.stack_size)
        except Exception as error:  # reported by the first step if it is not a failure of the analysis only
            logger.debug("the training step cannot be analyzed: %s", error, exc_info=True)
        self._log_estimate()

    def _log_estimate(self) -> None:
        model, temporary = self._components.model, self._cost.temporary_bytes
        if temporary is None:
            temporary = estimate_temporary_bytes(model, self._components.loader.batch_size)
        state = nbytes(model)
        free = free_memory_bytes(self._components.devices)
        logger.info(
            "Training step: estimated memory %s (weights, optimizer, metrics) + %s (activations, gradients)%s%s",
            format_bytes(state),
            format_bytes(temporary),
            "" if free is None else f", {format_bytes(free)} available",
            f", {self._cost.flops / 1e9:.3g} GFLOP" if self._cost.flops else "",
        )
        if free is not None and state + temporary > free:
            logger.warning(
                "the training step may not fit into memory; --train.batch_size auto finds a batch size that fits"
            )
        if free is not None and self._cost.temporary_bytes is not None:
            size = self._components.loader.batch_size
            self._estimated_max = max(0, int(size * (free - state) / max(1, temporary)))

    def estimate_batch_size(self) -> int | None:
        """Return the estimated largest batch size that fits, after one that did not; None if unknown."""
        size = self._estimated_max
        return size if size and size < self._components.loader.batch_size else None

    @cached_property
    def _peak_flops(self) -> float:
        """Return the peak FLOP/s of all devices in use."""
        gpus = len(self._components.devices.gpus)
        peak = measure_peak_flops(on_gpu=bool(gpus)) * max(1, gpus)
        logger.info("Peak of the device, measured with a matrix product: %.3g TFLOP/s", peak / 1e12)
        return peak

    def measurements(self, steps: int, seconds: float) -> dict[str, float]:
        """Return the columns of the history: share of the peak FLOP/s, and memory of GPUs.

        Args:
            steps: number of steps since the last evaluation.
            seconds: their duration.
        """
        values = {}
        if self._cost.flops:
            values["mfu"] = float(f"{self._cost.flops * steps / seconds / self._peak_flops:.4g}")
        if (memory := read_device_memory(self._components.devices)) is not None:
            values["gpu_memory_mb"] = round(memory.peak_bytes / 1e6, 1)
        return values

    def peak_memory_mb(self) -> dict[str, float]:
        """Return the peak memory of this process (`host`) and on the GPUs (`gpu`) in MB (10^6 bytes)."""
        memory = read_device_memory(self._components.devices)
        on_gpu = {} if memory is None else {"gpu": round(memory.peak_bytes / 1e6, 1)}
        return {"host": peak_resident_memory_mb(), **on_gpu}
