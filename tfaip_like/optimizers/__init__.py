"""Optimizer settings: all Keras optimizers and AdaBelief, with common weight decay and gradient clipping.

No value is silently ignored: an unsupported setting is an error.
"""

from tfaip_like.optimizers._keras_optimizers import (
    SGD,
    AdaBelief,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    Lamb,
    Lion,
    Muon,
    Nadam,
    RMSprop,
    ScheduleFreeAdamW,
)
from tfaip_like.optimizers._optimizer import Optimizer, Optimizers

__all__ = [
    "SGD",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "Muon",
    "Nadam",
    "Optimizer",
    "Optimizers",
    "RMSprop",
    "ScheduleFreeAdamW",
]
