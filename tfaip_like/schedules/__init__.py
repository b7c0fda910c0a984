"""Learning-rate schedules."""

from tfaip_like.schedules._schedules import (
    Constant,
    CosineDecay,
    Course,
    Decay,
    ExponentialDecay,
    InverseSqrt,
    OneCycle,
    PiecewiseConstant,
    PolynomialDecay,
    ReduceOnPlateau,
    Schedule,
)

__all__ = [
    "Constant",
    "CosineDecay",
    "Course",
    "Decay",
    "ExponentialDecay",
    "InverseSqrt",
    "OneCycle",
    "PiecewiseConstant",
    "PolynomialDecay",
    "ReduceOnPlateau",
    "Schedule",
]
