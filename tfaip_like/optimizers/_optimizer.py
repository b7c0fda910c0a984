"""Base class of optimizer settings: weight decay, gradient clipping and the Keras optimizer."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.lazy_keras import keras
from tfaip_like.optimizers._ranges import NonNegative, check_ranges
from tfaip_like.params import Params
from tfaip_like.params._base import field_default, field_types
from tfaip_like.params._field_rules import Requires, field_rules
from tfaip_like.schedules import Schedule

if TYPE_CHECKING:
    from keras.optimizers.schedules import LearningRateSchedule


@dataclass(frozen=True)
class Clipping:
    """Rule: the field is a kind of gradient clipping, of which one at most can be used."""

    keras_name: str
    """Name of the argument in Keras."""


_NEEDS_WEIGHT_DECAY = Requires("weight_decay", "no weight decay (set --optimizer.weight_decay)")


class Optimizer(Params, abc.ABC):
    """Base class of optimizer settings.

    A subclass names a class of `keras.optimizers` and declares its arguments as fields; another Keras class is
    returned by `keras_class`.

    Example:
        >>> from tfaip_like.optimizers import SGD
        >>> SGD(momentum=0.9, clip_global_norm=1.0)
        SGD(clip_global_norm=1.0, momentum=0.9)
    """

    plugin_group = "tfaip_like.optimizers"

    search_words = {
        "weight_decay": "decay l2 regularization",
        "exclude_from_weight_decay": "no_decay",
        "lr_factors": "lr_multiplier layerwise discriminative learning rates lr_mult layer_decay param_groups",
        "clip_value": "clipvalue gradient_clip_value",
        "clip_norm": "clipnorm",
        "clip_global_norm": "global_clipnorm global_clip_norm gradient_clip_val max_grad_norm clip_grad_norm grad_clip",
    }

    weight_decay: NonNegative | None = None
    """Weight decay; none disables it. Decoupled by default (Loshchilov and Hutter 2019,
    https://arxiv.org/abs/1711.05101): each step multiplies the weights by 1 - learning rate * weight_decay."""

    weight_decay_mode: Annotated[Literal["decoupled", "l2", "relative"], _NEEDS_WEIGHT_DECAY] = "decoupled"
    """Kind of weight decay: decoupled as above; l2 adds weight_decay * weight to the gradient, as PyTorch's Adam
    and SGD do; relative multiplies the weights by 1 - weight_decay * learning rate / peak learning rate, as tfaip and
    TensorFlow Addons do."""

    exclude_from_weight_decay: Annotated[list[str], _NEEDS_WEIGHT_DECAY] = []
    """Regular expressions; weights whose path matches one (such as `dense/bias`) do not decay."""

    lr_factors: dict[str, float] = {}
    """Factor of the learning rate by regular expression of the weight's path, such as `backbone/=0.1`. The last one
    that matches applies; 1 for other weights. It scales the weight decay as well."""

    schedule: Schedule | None = None
    """Learning-rate schedule of a named optimizer (--optimizers); none uses --learning_rate."""

    clip_value: Annotated[float | None, Clipping("clipvalue")] = None
    """Maximum absolute value of each gradient element; none disables clipping by value."""

    clip_norm: Annotated[float | None, Clipping("clipnorm")] = None
    """Maximum L2 norm of each gradient; none disables clipping by norm."""

    clip_global_norm: Annotated[float | None, Clipping("global_clipnorm")] = None
    """Maximum L2 norm of all gradients together; none disables clipping by global norm."""

    def check(self) -> None:
        self.require_finite()
        clip_fields = [name for name in field_rules(type(self), Clipping) if getattr(self, name) is not None]
        for name in clip_fields:
            self.require(getattr(self, name) > 0, name, "must be above 0; omit it to disable clipping")
        self.require(
            len(clip_fields) < 2,
            clip_fields[-1] if clip_fields else "clip_value",
            f"only one kind of gradient clipping can be used; keep one of {', '.join(clip_fields)}",
        )
        check_ranges(self)
        is_decoupled = field_default(type(self), "weight_decay") is not None
        self.require(
            self.weight_decay_mode != "l2" or not is_decoupled,
            "weight_decay_mode",
            f"{type(self).__name__} supports decoupled weight decay only; for l2 use an optimizer such as Adam or SGD",
        )
        for pattern in self.exclude_from_weight_decay:
            self.require_regex("exclude_from_weight_decay", pattern)
        for pattern, factor in self.lr_factors.items():
            self.require_regex("lr_factors", pattern)
            self.require(factor > 0, "lr_factors", "must be above 0; freeze layers by --trainer.no_train_scope")

    @property
    def keras_class(self) -> type[keras.optimizers.Optimizer]:
        """Return the Keras class to build; by default the one of the same name."""
        keras_class: type[keras.optimizers.Optimizer] = getattr(keras.optimizers, type(self).__name__)
        return keras_class

    def build(
        self,
        learning_rate: LearningRateSchedule,
        variables: Sequence[keras.Variable],
        has_rate_factor: bool = False,
        ema_momentum: float = 0.0,
        paths: Mapping[str, keras.Variable] | None = None,
        peak_lr: float = 1.0,
        name: str | None = None,
    ) -> keras.optimizers.Optimizer:
        """Return the Keras optimizer for these trainable variables.

        Args:
            learning_rate: Learning rate by optimizer step.
            variables: Trainable variables.
            has_rate_factor: Multiply the learning rate by the optimizer's variable `rate_factor`, initially 1.
            ema_momentum: Momentum of the moving averages of the weights, in [0, 1); 0 keeps none.
            paths: Variables by the paths that patterns match; by default `variable.path`.
            peak_lr: Highest learning rate, for `weight_decay_mode` relative.
            name: Name of the optimizer, with which the paths of its variables begin; by default that of its class.

        Raises:
            UsageError: If a pattern of `exclude_from_weight_decay` or `lr_factors` matches no variable.
        """
        from tfaip_like._keras_ext.extended_optimizer import with_extensions

        values = {name: getattr(self, name) for name in field_types(type(self))}
        for handled in ("exclude_from_weight_decay", "weight_decay_mode", "lr_factors", "schedule"):
            del values[handled]
        clipping = field_rules(type(self), Clipping)
        arguments = {clipping[name].keras_name if name in clipping else name: value for name, value in values.items()}
        l2 = 0.0
        if self.weight_decay and self.weight_decay_mode == "l2":
            l2, arguments["weight_decay"] = self.weight_decay, None
        elif self.weight_decay and self.weight_decay_mode == "relative":
            arguments["weight_decay"] = self.weight_decay / peak_lr
        path_of = {id(variable): path for path, variable in (paths or {}).items()}
        named = [(path_of.get(id(variable), variable.path), variable) for variable in variables]
        lr_factors = self._lr_factors_of([path for path, _ in named])
        cls = with_extensions(self.keras_class, has_rate_factor, ema_momentum, l2, lr_factors)
        if name is not None:
            arguments["name"] = name
        optimizer = cls(learning_rate=learning_rate, **arguments)
        if self.exclude_from_weight_decay:
            optimizer.exclude_from_weight_decay(var_list=self._variables_without_decay(named))
        optimizer.build(list(variables))
        return optimizer

    def _lr_factors_of(self, paths: Sequence[str]) -> list[float]:
        """Return the learning-rate factor of each path; none if no factors are set."""
        if not self.lr_factors:
            return []
        factors = [1.0] * len(paths)
        for pattern, factor in self.lr_factors.items():
            for index in _match_paths("lr_factors", pattern, paths):
                factors[index] = factor
        return factors

    def _variables_without_decay(self, named: Sequence[tuple[str, keras.Variable]]) -> list[keras.Variable]:
        # Matched here: Keras compares its `var_names` with other names on each backend.
        paths = [path for path, _ in named]
        return [
            named[index][1]
            for pattern in self.exclude_from_weight_decay
            for index in _match_paths("exclude_from_weight_decay", pattern, paths)
        ]


class Optimizers(Params):
    """Named optimizers of a model with its own `train_step`; a subclass declares each as a field.

    Example:
        >>> from tfaip_like.optimizers import Adam, Optimizer, Optimizers
        >>> class OfGAN(Optimizers):
        ...     generator: Optimizer = Adam(beta_1=0.5)
        ...     discriminator: Optimizer = Adam(beta_1=0.5)
    """


def _match_paths(field: str, pattern: str, paths: Sequence[str]) -> list[int]:
    """Return the indices of the paths that a pattern of a field matches.

    Raises:
        UsageError: If it matches none.
    """
    matching = [index for index, path in enumerate(paths) if re.search(pattern, path)]
    if not matching:
        raise UsageError(
            f"--optimizer.{field} {pattern}: no trainable weight matches; available: {truncate_list(paths, limit=8)}"
        )
    return matching
