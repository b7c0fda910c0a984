"""Initialization of backend and devices, without their start-up output."""

from __future__ import annotations

import importlib

from tfaip_like._training.devices import configure_devices
from tfaip_like._utils.interruption import graceful_shutdown_signals
from tfaip_like._utils.lazy_keras import initialize_backend, set_backend
from tfaip_like._utils.native_stderr import suppress_native_stderr
from tfaip_like.settings import Device


def initialize_runtime(device: Device, needs_keras: bool = True) -> None:
    """Choose backend and devices, and import the libraries.

    Raises:
        UsageError: if a device or a library is not available.
        Interrupted: after Ctrl-C.
    """
    if needs_keras:
        set_backend(device.backend)
    # Ctrl-C sets a flag instead of raising: libraries swallow a KeyboardInterrupt while they are imported.

    with graceful_shutdown_signals() as interrupt, suppress_native_stderr():
        configure_devices(device)
        if needs_keras:
            initialize_backend()
        else:
            importlib.import_module("tensorflow").constant(0)
    interrupt.check()
