"""Inference with exported models."""

from tfaip_like._export.layout import resolve_export_dir
from tfaip_like.inference._loading import load_predictor
from tfaip_like.inference._predictor import Predictor

__all__ = ["Predictor", "load_predictor", "resolve_export_dir"]
