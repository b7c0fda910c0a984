"""Exported models: written by a training, used without it."""

from tfaip_like.predict.loading import load_predictor
from tfaip_like.predict.predictor import Predictor

__all__ = ["Predictor", "load_predictor"]
