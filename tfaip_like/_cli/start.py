"""Starting what computes, without what it prints while it starts."""

from __future__ import annotations

import importlib

from tfaip_like._cli.command import native_notes_hidden
from tfaip_like._training.devices import choose_devices
from tfaip_like._utils.interruption import catch_interrupts
from tfaip_like._utils.lazy_keras import choose_backend, start_backend
from tfaip_like.settings import Device


def start(device: Device, needs_keras: bool = True) -> None:
    """Chooses backend and devices, and imports the libraries.

    Raises:
        UsageError: when they are not there.
        Interrupted: after Ctrl-C.
    """
    if needs_keras:
        choose_backend(device.backend)
    # Noted, not raised: libraries swallow a KeyboardInterrupt that hits them while they are imported.
    with catch_interrupts() as interrupt, native_notes_hidden():
        choose_devices(device)
        if needs_keras:
            start_backend()
        else:
            importlib.import_module("tensorflow").constant(0)
    interrupt.check()
