"""Models, graphs (interchangeable parts of a network) and voters for ensembles."""

from tfaip_like.modeling._activations import record_activation
from tfaip_like.modeling._context import context
from tfaip_like.modeling._keras_model import KerasApplication, KerasFile, KerasModel
from tfaip_like.modeling._model import Graph, Model, Tensors
from tfaip_like.modeling._training_step import TrainingBatch, TrainingStep
from tfaip_like.modeling._voting import Majority, Mean, Voter

__all__ = [
    "Graph",
    "KerasApplication",
    "KerasFile",
    "KerasModel",
    "Majority",
    "Mean",
    "Model",
    "Tensors",
    "TrainingBatch",
    "TrainingStep",
    "Voter",
    "context",
    "record_activation",
]
