"""Parameter groups that every scenario has: trainer, device, early stopping, warm start and resume."""

from tfaip_like.settings._device import Device
from tfaip_like.settings._early_stopping import EarlyStopping
from tfaip_like.settings._resume import Resume
from tfaip_like.settings._trainer import Trainer
from tfaip_like.settings._warm_start import WarmStart

__all__ = ["Device", "EarlyStopping", "Resume", "Trainer", "WarmStart"]
