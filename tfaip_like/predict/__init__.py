"""Exported models: written by a training, used without it."""

from tfaip_like.predict.predictor import Predictor, load_predictor

__all__ = ["Predictor", "load_predictor"]
