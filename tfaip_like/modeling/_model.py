"""`Model`: the network, what it minimises, and what is measured while it trains."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from tfaip_like.data._sample import Arrays
from tfaip_like.params import Params
from tfaip_like.summaries import Summary

if TYPE_CHECKING:
    import keras

Tensors: TypeAlias = Mapping[str, Any]
"""Named tensors with a batch axis, of the backend in use."""


class Model(Params, abc.ABC):
    """A network with its losses and metrics; written with `keras.layers` and `keras.ops`."""

    foreign_name_hints = {
        **dict.fromkeys(
            ("call", "forward", "build_model", "create_model", "get_model"), "the network is made in `build`"
        ),
        **dict.fromkeys(
            ("train_step", "test_step", "training_step", "validation_step", "fit", "compile", "train"),
            "--trainer, --optimizer and --learning_rate say how it trains, and `loss` what is minimised",
        ),
        **dict.fromkeys(("compute_loss", "loss_fn", "criterion"), "losses are named in `loss`"),
        **dict.fromkeys(("compute_metrics", "accuracy"), "metrics are named in `metrics`"),
        **dict.fromkeys(("predict", "predict_step"), "another network for prediction is made in `build_prediction`"),
        **dict.fromkeys(("configure_optimizers", "optimizer"), "the scenario has an `optimizer`: Optimizer = Adam()"),
        **dict.fromkeys(("save", "load", "get_config", "from_config"), "best/ and export/ hold the trained network"),
    }

    loss_weights: dict[str, float] = {}
    """Weight of each named loss in the sum that is minimised; 1 where none is given."""

    best: ClassVar[tuple[str, Literal["min", "max"]]] = ("val_loss", "min")
    """The logged value that tells which epoch is best, and its good direction.

    Without validation data, `val_NAME` falls back to the `NAME` of training.
    """

    experiment_defaults: ClassVar[dict[str, Any]] = {}
    """Flags that come with this model in `experiments generate --models`, such as its data:
    `{"data": "Tracks", "trainer.epochs": 50}`. What a plan or a command line says wins."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if not (isinstance(cls.best, tuple) and len(cls.best) == 2 and cls.best[1] in ("min", "max")):
            raise TypeError(f'{cls.__qualname__}.best is {cls.best!r}; write it like "val_accuracy", "max"')

    @abc.abstractmethod
    def build(self, inputs: Tensors) -> Tensors:
        """Makes the network: named symbolic inputs to named outputs.

        Also the prediction network, unless `build_prediction` makes another; then this one serves
        training only, and `inputs` holds the targets too where `feed_targets` names them.
        """

    feed_targets: ClassVar[tuple[str, ...]] = ()
    """Targets that `build` finds among its inputs (teacher forcing); needs `build_prediction`."""

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors | None:
        """Another network for prediction, from layers of the trained one (`trained.get_layer(NAME)`).

        An input that it does not use is not asked for in prediction. None, the default, means that
        the trained network predicts as well.
        """
        return None

    def build_export(self, inputs: Tensors, prediction: keras.Model) -> Tensors | None:
        """Another network for exports only: what a service answers may differ from what is validated.

        Validations and `result.network` keep the prediction network; load-and-validate and predict-scenario use
        the export. None, the default, exports the prediction network.

        Args:
            prediction: the prediction network, to be called (`prediction(inputs)`) or taken apart.

        Example:
            The best class alone::

                def build_export(self, inputs, prediction):
                    return {"class": ops.argmax(prediction(inputs)["probabilities"], axis=-1)}
        """
        return None

    def auxiliary_models(self, trained: keras.Model) -> Mapping[str, keras.Model]:
        """More networks to export beside the prediction network, by name: an encoder alone, say."""
        return {}

    @abc.abstractmethod
    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        """Named losses, each one number or one per sample of the batch (then averaged).

        Their weighted sum is minimised and logged as `loss`, beside each under its own name.
        """

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        """Named numbers to log, each one per batch or one per sample; averaged over the epoch.

        What is no average (F1, an error rate over all characters) belongs into an `Evaluator`.
        """
        return {}

    def summaries(self, inputs: Arrays, targets: Arrays, outputs: Arrays) -> Mapping[str, Summary]:
        """What to look at after each validation (`tfaip_like.summaries`): attention weights as an image, say.

        Args:
            inputs: of the first validation batch, as arrays of numpy; so are the others.
            outputs: of the prediction network.
        """
        return {}


class Graph(Params, abc.ABC):
    """An interchangeable part of a network, chosen by a flag."""

    foreign_name_hints = dict.fromkeys(("call", "forward", "apply"), "the part is made in `build`")

    experiment_defaults: ClassVar[dict[str, Any]] = {}
    """Flags that come with this graph, see `Model.experiment_defaults`."""

    @abc.abstractmethod
    def build(self, inputs: Any) -> Any:
        """The part applied to symbolic tensors."""
