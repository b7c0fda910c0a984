"""Settings of a training that every scenario has, and of going on with one."""

from tfaip_like.settings.device import Device
from tfaip_like.settings.early_stopping import EarlyStopping
from tfaip_like.settings.resume import Resume
from tfaip_like.settings.trainer import Trainer
from tfaip_like.settings.warm_start import WarmStart

__all__ = ["Device", "EarlyStopping", "Resume", "Trainer", "WarmStart"]
