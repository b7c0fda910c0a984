"""Settings of a training that every scenario has."""

from tfaip_like.settings.device import Device
from tfaip_like.settings.early_stopping import EarlyStopping
from tfaip_like.settings.trainer import Trainer
from tfaip_like.settings.warm_start import WarmStart

__all__ = ["Device", "EarlyStopping", "Trainer", "WarmStart"]
