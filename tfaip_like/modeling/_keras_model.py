"""Existing Keras models as the model of a scenario."""

from __future__ import annotations

import abc
import difflib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tfaip_like._utils.errors import UsageError, short_error_message
from tfaip_like._utils.lazy_keras import keras, ops
from tfaip_like._utils.remote_paths import local_path
from tfaip_like.modeling._model import Model, Tensors
from tfaip_like.params._field_rules import Requires

if TYPE_CHECKING:
    from collections.abc import Callable


_NEEDS_LORA = Requires("lora_rank", "lora_rank is 0 (set --model.lora_rank)")


class KerasModel(Model, abc.ABC):
    """Base class of scenarios' models that are an existing `keras.Model`: functional, sequential or a subclass.

    Inputs are matched with those of the model by name, or by order if all names differ. The paths of the weights begin
    with the name of the model.

    Example::

        class Net(KerasModel):
            keras_losses = ["sparse_categorical_crossentropy"]

            def build_model(self, inputs):
                return my_package.make_resnet(classes=10)
    """

    foreign_name_hints = {name: hint for name, hint in Model.foreign_name_hints.items() if name != "build_model"}

    keras_losses: list[str] = []
    """Losses by their names in Keras, such as mse; OUTPUT=NAME if the model has several outputs."""

    keras_metrics: list[str] = []
    """Metrics by their names in Keras, such as binary_accuracy; OUTPUT=NAME if the model has several outputs."""

    from_logits: bool = False
    """Outputs are logits, without a last softmax or sigmoid."""

    output_names: list[str] = []
    """Names of the outputs, in the order of the model; by default the names of their layers, or `output`."""

    lora_rank: int = 0
    """Rank of low-rank adaptation (LoRA, https://arxiv.org/abs/2106.09685): the weights of the model are frozen, and
    low-rank updates of its layers are trained; 0 disables it."""

    lora_alpha: Annotated[float | None, _NEEDS_LORA] = None
    """Scale of LoRA: updates are multiplied by lora_alpha / lora_rank; by default lora_rank."""

    lora_layers: Annotated[str, _NEEDS_LORA] = ""
    """Regular expression; LoRA adapts the layers whose path in the model it matches; by default all that support it."""

    lora_unfrozen: Annotated[str | None, _NEEDS_LORA] = None
    """Regular expression; layers whose path in the model it matches are trained as a whole, such as a new head."""

    @abc.abstractmethod
    def build_model(self, inputs: Tensors) -> keras.Model:
        """Return the Keras model.

        Args:
            inputs: Symbolic inputs by name, for their shapes.
        """

    def build(self, inputs: Tensors) -> Tensors:
        origin = f"{type(self).__name__}.build_model"
        network = self.build_model(inputs)
        if not isinstance(network, keras.Model):
            raise UsageError(f"{origin} returned {type(network).__name__}; it must return a keras.Model")
        from tfaip_like.modeling._keras_calls import call_keras_model

        outputs = call_keras_model(network, inputs, self.output_names, origin)
        self._enable_lora(network)
        return outputs

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        from tfaip_like.modeling._keras_functions import compute_keras_functions

        return compute_keras_functions("losses", self.keras_losses, targets, outputs, self.from_logits)

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        from tfaip_like.modeling._keras_functions import compute_keras_functions

        return compute_keras_functions("metrics", self.keras_metrics, targets, outputs, self.from_logits)

    def check(self) -> None:
        has_loss = bool(self.keras_losses) or type(self).loss is not KerasModel.loss
        self.require(has_loss, "keras_losses", "is empty; name a loss of Keras such as mse, or override `loss`")
        self.require(self.lora_rank >= 0, "lora_rank", "must not be negative")
        self.require_regex("lora_layers", self.lora_layers)
        self.require_regex("lora_unfrozen", self.lora_unfrozen or "")

    def _enable_lora(self, network: keras.Model) -> None:
        if self.lora_rank:
            from tfaip_like._keras_ext.lora import enable_lora

            enable_lora(network, self.lora_rank, self.lora_alpha, self.lora_layers, self.lora_unfrozen)


class KerasFile(KerasModel):
    """Model of a `.keras` file, with its weights.

    Its custom layers must be registered by `keras.saving.register_keras_serializable` in an imported module.

    Example:
        >>> KerasFile(file=Path("net.keras"), keras_losses=["mse"]).file.name
        'net.keras'
    """

    file: Path | None = None
    """File that `keras.Model.save` has written."""

    resources = ("file",)

    def build_model(self, inputs: Tensors) -> keras.Model:
        assert self.file is not None
        try:
            return keras.saving.load_model(local_path(self.file), compile=False)
        except (ValueError, TypeError, OSError, KeyError) as error:
            raise UsageError(f"--model.file {self.file}: cannot load it: {short_error_message(error)}") from error

    def check(self) -> None:
        super().check()
        self.require(self.file is not None, "file", "is required: a file that keras.Model.save has written")


class KerasApplication(KerasModel):
    """Image classifier with a backbone of `keras.applications` and a new head.

    The data has one input, an RGB image with values from 0 to 255. The backbone includes its preprocessing.

    Example:
        >>> KerasApplication(name="MobileNetV3Small", num_classes=5, weights="none").num_classes
        5
    """

    name: str = "MobileNetV3Small"
    """Name in keras.applications, such as ResNet50 or EfficientNetV2B0."""

    weights: Literal["imagenet", "none"] = "imagenet"
    """Initial weights of the backbone; Keras downloads those of imagenet on first use."""

    num_classes: int = 10
    """Number of classes: length of the output `probabilities`."""

    dropout: float = 0.2
    """Dropout rate before the last layer, in [0, 1)."""

    keras_losses = ["sparse_categorical_crossentropy"]
    keras_metrics = ["sparse_categorical_accuracy"]

    best = "val_sparse_categorical_accuracy", "max"

    def build_model(self, inputs: Tensors) -> keras.Model:
        create = self._find_application()
        shape = tuple(next(iter(inputs.values())).shape[1:])
        weights = None if self.weights == "none" else self.weights
        try:
            backbone: keras.Model = create(
                include_top=False, weights=weights, input_shape=shape, pooling="avg", name="backbone"
            )
        except Exception as error:  # of the download, or of Keras for a shape
            raise UsageError(
                f"--model.name {self.name}: cannot create it with weights {self.weights} for images of shape {shape}: "
                f"{short_error_message(error)}"
            ) from error
        return backbone

    def build(self, inputs: Tensors) -> Tensors:
        if len(inputs) != 1:
            raise UsageError(f"{type(self).__name__} needs one input, an image; the data has {', '.join(inputs)}")
        backbone = self.build_model(inputs)
        module = importlib.import_module(f"keras.applications.{self._find_application().__module__.rpartition('.')[2]}")
        (image,) = inputs.values()
        features = backbone(module.preprocess_input(ops.cast(image, "float32")))
        self._enable_lora(backbone)
        hidden = keras.layers.Dropout(self.dropout, name="dropout")(features)
        return {"probabilities": keras.layers.Dense(self.num_classes, activation="softmax", name="head")(hidden)}

    def _find_application(self) -> Callable[..., keras.Model]:
        names = [name for name in dir(keras.applications) if name[0].isupper()]
        if self.name not in names:
            near = difflib.get_close_matches(self.name, names, n=3, cutoff=0.3)
            raise UsageError(f"--model.name {self.name}: not in keras.applications; closest: {', '.join(near)}")
        create: Callable[..., Any] = getattr(keras.applications, self.name)
        return create

    def check(self) -> None:
        super().check()
        self.require(not self.output_names, "output_names", "has no effect: the output is called `probabilities`")
        self.require(not self.from_logits, "from_logits", "has no effect: the last layer is a softmax")
        self.require(self.num_classes > 0, "num_classes", "must be above 0")
        self.require(0 <= self.dropout < 1, "dropout", "must be in [0, 1)")
