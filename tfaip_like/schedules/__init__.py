"""Learning-rate schedules, in epochs instead of steps and with a warm-up."""

from tfaip_like.schedules._schedules import (
    Constant,
    CosineDecay,
    Decay,
    ExponentialDecay,
    InverseSqrt,
    OneCycle,
    PiecewiseConstant,
    PolynomialDecay,
    ReduceOnPlateau,
    Schedule,
    TrainingLength,
)

__all__ = [
    "Constant",
    "CosineDecay",
    "Decay",
    "ExponentialDecay",
    "InverseSqrt",
    "OneCycle",
    "PiecewiseConstant",
    "PolynomialDecay",
    "ReduceOnPlateau",
    "Schedule",
    "TrainingLength",
]
