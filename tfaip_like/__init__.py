"""tfaip_like: declare an experiment as a scenario, get everything else.

What a scenario needs is here; all of it can be imported without Keras being loaded.
"""

from typing import TYPE_CHECKING

from tfaip_like._utils.errors import Interrupted, TrainingError, UsageError
from tfaip_like._utils.lazy_imports import import_on_use
from tfaip_like._utils.lazy_keras import keras, ops
from tfaip_like._version import __version__ as __version__
from tfaip_like.data import ArraySource, Data, Mode, Processor, Sample, Spec, Writer
from tfaip_like.evaluation import Evaluator
from tfaip_like.modeling import Graph, KerasModel, Model, Tensors, Voter, context, record_activation
from tfaip_like.params import Params
from tfaip_like.scenario import Scenario

if TYPE_CHECKING:
    from tfaip_like._commands.evaluation import evaluate
    from tfaip_like._commands.prediction import predict
    from tfaip_like._inspection.benchmark import benchmark
    from tfaip_like._training import train
    from tfaip_like.inference import Predictor, load_predictor
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "Predictor": "tfaip_like.inference",
            "benchmark": "tfaip_like._inspection.benchmark",
            "evaluate": "tfaip_like._commands.evaluation",
            "predict": "tfaip_like._commands.prediction",
            "load_predictor": "tfaip_like.inference",
            "train": "tfaip_like._training",
        },
    )

__all__ = [
    "ArraySource",
    "Data",
    "Evaluator",
    "Graph",
    "Interrupted",
    "KerasModel",
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
    "benchmark",
    "context",
    "evaluate",
    "keras",
    "load_predictor",
    "ops",
    "predict",
    "record_activation",
    "train",
]
