"""Exported models: written by a training, used without it."""

from tfaip_like.inference._loading import load_predictor
from tfaip_like.inference._predictor import Predictor

__all__ = ["Predictor", "load_predictor"]
