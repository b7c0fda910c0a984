"""tfaip_like: declare an experiment as a scenario, get everything else.

What a scenario needs is here; all of it can be imported without Keras being loaded.
"""

from tfaip_like.data import ArraySource, Data, Processor
from tfaip_like.errors import Interrupted, TrainingError, UsageError
from tfaip_like.evaluator import Evaluator
from tfaip_like.lazy import keras, ops
from tfaip_like.model import Graph, Model, Tensors
from tfaip_like.params import Params
from tfaip_like.predict import Predictor, load_predictor
from tfaip_like.sample import Mode, Sample, Spec
from tfaip_like.scenario import Scenario
from tfaip_like.train import train
from tfaip_like.voter import Voter
from tfaip_like.writer import Writer

__all__ = [
    "ArraySource",
    "Data",
    "Evaluator",
    "Graph",
    "Interrupted",
    "Mode",
    "Model",
    "Params",
    "Predictor",
    "Processor",
    "Sample",
    "Scenario",
    "Spec",
    "Tensors",
    "TrainingError",
    "UsageError",
    "Voter",
    "Writer",
    "keras",
    "load_predictor",
    "ops",
    "train",
]
