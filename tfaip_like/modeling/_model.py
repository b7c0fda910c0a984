"""Base classes `Model` (network, losses, metrics) and `Graph` (interchangeable part of a network)."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from tfaip_like.data._sample import Arrays
from tfaip_like.modeling._graph_scopes import in_graph_scope
from tfaip_like.params import Params
from tfaip_like.summaries import Histogram, Summary

if TYPE_CHECKING:
    import keras

    from tfaip_like.modeling._training_step import TrainingBatch, TrainingStep

Tensors: TypeAlias = Mapping[str, Any]
"""Named backend tensors with a leading batch axis."""


class Model(Params, abc.ABC):
    """Network with its losses and metrics, written with `keras.layers` and `keras.ops`.

    A model is an immutable configuration, not a `keras.Layer`: create layers in `build`.

    Example::

        class Classifier(Model):
            units: int = 64
            \"\"\"Number of hidden units.\"\"\"

            def build(self, inputs):
                hidden = keras.layers.Dense(self.units, activation="relu")(inputs["x"])
                return {"probabilities": keras.layers.Dense(10, activation="softmax")(hidden)}

            def loss(self, inputs, targets, outputs):
                crossentropy = keras.losses.sparse_categorical_crossentropy
                return {"crossentropy": crossentropy(targets["label"], outputs["probabilities"])}
    """

    foreign_name_hints = {
        **dict.fromkeys(
            ("call", "forward", "build_model", "create_model", "get_model"), "define the network in `build`"
        ),
        **dict.fromkeys(
            ("test_step", "training_step", "validation_step", "fit", "compile", "train"),
            "--trainer, --optimizer and --learning_rate configure training, `loss` defines the losses, `train_step` "
            "replaces the update of the weights",
        ),
        **dict.fromkeys(("compute_loss", "loss_fn", "criterion"), "define losses in `loss`"),
        **dict.fromkeys(("compute_metrics", "accuracy"), "define metrics in `metrics`"),
        **dict.fromkeys(("predict", "predict_step"), "define an inference network in `build_prediction`"),
        **dict.fromkeys(
            ("configure_optimizers", "optimizer"), "set the optimizer in the scenario: optimizer: Optimizer = Adam()"
        ),
        **dict.fromkeys(
            ("save", "load", "get_config", "from_config"), "the trained network is exported to best/ and export/"
        ),
    }

    loss_weights: dict[str, float] = {}
    """Weight of each named loss in the total loss; 1 for losses that are not listed."""

    best: ClassVar[tuple[str, Literal["min", "max"]]] = ("val_loss", "min")
    """Monitored metric that selects the best epoch, and its mode.

    Without validation data, `val_NAME` falls back to the training metric `NAME`.
    """

    experiment_defaults: ClassVar[dict[str, Any]] = {}
    """Default flags of this model in `experiments generate --models`, such as its data:
    `{"data": "Tracks", "trainer.epochs": 50}`. Values of a plan or the command line take precedence."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if not (isinstance(cls.best, tuple) and len(cls.best) == 2 and cls.best[1] in ("min", "max")):
            raise TypeError(f'{cls.__qualname__}.best is {cls.best!r}; expected a pair like ("val_accuracy", "max")')

    @abc.abstractmethod
    def build(self, inputs: Tensors) -> Tensors:
        """Return the named outputs of the network for its symbolic inputs.

        The network is used for training, and for inference unless `build_prediction` returns another one.

        Args:
            inputs: Symbolic inputs by name, of shape (batch, ...); also the targets listed in `feed_targets`.
        """

    feed_targets: ClassVar[tuple[str, ...]] = ()
    """Targets passed to `build` as additional inputs (teacher forcing); requires `build_prediction`."""

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors | None:
        """Return the outputs of a separate inference network, or None (default) to use the trained network.

        Inputs that it does not use are not required for prediction.

        Args:
            inputs: Symbolic inputs by name, without targets.
            trained: Network of `build`, whose layers (`trained.get_layer(NAME)`) are reused.
        """
        return None

    def build_export(self, inputs: Tensors, prediction: keras.Model) -> Tensors | None:
        """Return the outputs of a separate network for exports, or None (default) to export the prediction network.

        Validation and `result.network` use the prediction network; load-and-validate and predict-scenario use
        the export.

        Args:
            inputs: Symbolic inputs by name, without targets.
            prediction: Prediction network, to be called (`prediction(inputs)`) or to take layers from.

        Example:
            Export only the best class::

                def build_export(self, inputs, prediction):
                    return {"class": ops.argmax(prediction(inputs)["probabilities"], axis=-1)}
        """
        return None

    def auxiliary_models(self, trained: keras.Model) -> Mapping[str, keras.Model]:
        """Return additional networks to export by name, such as an encoder.

        Args:
            trained: Network of `build`, from whose layers they are built.
        """
        return {}

    @abc.abstractmethod
    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        """Return named losses, each a scalar or of shape (batch,), which is averaged.

        Losses of shape (batch,) are first multiplied by the target `sample_weight`, if there is one.
        Their weighted sum is minimized and logged as `loss`; each loss is also logged by its name.

        Args:
            inputs: Inputs of the batch by name.
            targets: Targets of the batch by name.
            outputs: Outputs of the trained network for the batch by name.
        """

    def train_step(self, batch: TrainingBatch, step: TrainingStep) -> Tensors:
        """Update the weights once per batch, instead of minimizing the sum of `loss`; optional.

        For several losses with their own weights and optimizers, such as those of a generative adversarial network.
        Validation still computes `loss` and `metrics` from the outputs of the network.

        Args:
            batch: `batch.inputs` and `batch.targets` by name.
            step: `step.minimize` updates weights, `step.gradient` returns a gradient, `step.network` is the network.

        Returns:
            The values to log: one of each name in `loss` and `metrics`, a scalar or of shape (batch,).
        """
        raise NotImplementedError

    @classmethod
    def has_train_step(cls) -> bool:
        """Return whether the model defines its own `train_step`."""
        return cls.train_step is not Model.train_step

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        """Return named metrics to log.

        Each value is one of

        - a scalar or a tensor of shape (batch,), averaged over the samples of the epoch, with the target
          `sample_weight` as weight if there is one;
        - a tuple `(values, weights)`, such as the errors of tokens and their mask, for a weighted mean over the epoch.
          The weights have the shape of the values, or of their first axes;
        - the arguments of `update_state` of the object with this name in `make_metrics`.

        Args:
            inputs: Inputs of the batch by name.
            targets: Targets of the batch by name.
            outputs: Outputs of the trained network for the batch by name.
        """
        return {}

    def make_metrics(self) -> Mapping[str, keras.metrics.Metric]:
        """Return metrics that are not means by name, such as AUC, F1 or IoU, whose state is kept over the epoch.

        `metrics` returns the arguments of their `update_state` under the same names. A vector as result, such as one
        value per class, is logged as NAME_0, NAME_1, ...

        Example::

            def make_metrics(self):
                return {"auc": keras.metrics.AUC()}

            def metrics(self, inputs, targets, outputs):
                return {"auc": (targets["label"], outputs["probability"])}
        """
        return {}

    def summaries(self, inputs: Arrays, targets: Arrays, outputs: Arrays) -> Mapping[str, Summary]:
        """Return named summaries (`tfaip_like.summaries`) to log after each validation, such as attention images.

        Args:
            inputs: NumPy arrays of the first validation batch by name.
            targets: NumPy arrays of the first validation batch by name.
            outputs: NumPy arrays that the prediction network returned for the batch.
        """
        return {}

    def activation_summaries(
        self, inputs: Arrays, targets: Arrays, outputs: Arrays, activations: Arrays
    ) -> Mapping[str, Summary]:
        """Return named summaries of the activations of `record_activation`, by default a histogram of each.

        Called after each validation of a training. Load-and-validate does not call it: exports have no activations.

        Args:
            inputs: NumPy arrays of the first validation batch by name.
            targets: NumPy arrays of the first validation batch by name.
            outputs: NumPy arrays that the prediction network returned for the batch.
            activations: NumPy arrays that the training network and a separate prediction network recorded.
        """
        return {name: Histogram(values) for name, values in activations.items()}


class Graph(Params, abc.ABC):
    """Interchangeable part of a network, such as a backbone, selected by a flag.

    The paths of its layers begin with the attribute of the model that holds it. They do not change when layers are
    added elsewhere, so that weights can be frozen and loaded by path. Several graphs may name their layers alike;
    within a graph names must differ.

    Example::

        class MLP(Graph):
            units: int = 64
            \"\"\"Number of hidden units.\"\"\"

            def build(self, inputs):
                return keras.layers.Dense(self.units, activation="relu", name="hidden")(inputs)

        class Net(Model):
            encoder: Graph = MLP()
            \"\"\"Encoder, whose weights are `encoder/hidden/kernel` and `encoder/hidden/bias`.\"\"\"

            def build(self, inputs):
                return {"y": keras.layers.Dense(1, name="head")(self.encoder.build(inputs["x"]))}
    """

    foreign_name_hints = dict.fromkeys(("call", "forward", "apply"), "define the graph in `build`")

    experiment_defaults: ClassVar[dict[str, Any]] = {}
    """Default flags of this graph, see `Model.experiment_defaults`."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "build" in vars(cls):
            cls.build = in_graph_scope(cls.build)  # type: ignore[method-assign]

    @abc.abstractmethod
    def build(self, inputs: Any) -> Any:
        """Return the output tensors of the graph for symbolic inputs."""
