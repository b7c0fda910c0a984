"""Learning-rate schedules."""

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
