"""Models, their graphs, and how several models vote."""

from tfaip_like.modeling._model import Graph, Model, Tensors
from tfaip_like.modeling._voter import Voter
from tfaip_like.modeling._voting import Majority, Mean

__all__ = ["Graph", "Majority", "Mean", "Model", "Tensors", "Voter"]
