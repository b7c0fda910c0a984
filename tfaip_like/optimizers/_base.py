"""What all optimizers have: weight decay, clipping, and how they become Keras objects."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.lazy_keras import keras
from tfaip_like.params import Params
from tfaip_like.params._base import field_default, field_types

if TYPE_CHECKING:
    from keras.optimizers.schedules import LearningRateSchedule

KERAS_NAMES = {"clip_value": "clipvalue", "clip_norm": "clipnorm", "clip_global_norm": "global_clipnorm"}

UNIT_INTERVAL_FIELDS = {"beta_1", "beta_2", "adam_beta_1", "adam_beta_2", "rho", "momentum"}
"""Fields that say which part of a running mean stays."""

POSITIVE_FIELDS = {"epsilon", "epsilon_1", "epsilon_2", "clip_threshold", "rms_rate", "adam_lr_ratio", "ns_steps"}
NON_NEGATIVE_FIELDS = {
    "weight_decay",
    "adam_weight_decay",
    "initial_accumulator_value",
    "l1_regularization_strength",
    "l2_regularization_strength",
    "l2_shrinkage_regularization_strength",
    "beta",
    "warmup_steps",
}
NON_POSITIVE_FIELDS = {"learning_rate_power", "beta_2_decay"}
"""Fields of the optimizers that have them, by what their values must be."""


class Optimizer(Params, abc.ABC):
    """How gradients change the weights."""

    weight_decay: float | None = None
    """Weight decay; by default decoupled (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101):
    at each step every weight shrinks by this times the learning rate."""

    weight_decay_mode: Literal["decoupled", "l2", "relative"] = "decoupled"
    """How weights decay: decoupled as above; l2 adds weight_decay times the weight to its gradient, as
    PyTorch's Adam and SGD do; relative shrinks weights by weight_decay times the learning rate as a part of its
    highest value, as tfaip and TensorFlow Addons do."""

    exclude_from_weight_decay: list[str] = []
    """Regular expressions; a weight whose path matches one (`dense/bias`, say) does not decay."""

    clip_value: float | None = None
    """Limit each element of each gradient to this size."""

    clip_norm: float | None = None
    """Scale each gradient down to at most this norm."""

    clip_global_norm: float | None = None
    """Scale all gradients down together to at most this norm."""

    def check(self) -> None:
        self.require_finite()
        clip_fields = [name for name in KERAS_NAMES if getattr(self, name) is not None]
        for name in clip_fields:
            self.require(getattr(self, name) > 0, name, "must be above 0; leave it out for no clipping")
        self.require(
            len(clip_fields) < 2,
            clip_fields[-1] if clip_fields else "clip_value",
            f"Keras clips in one way at a time; leave out all but one of {', '.join(clip_fields)}",
        )
        fields = {name: value for name in field_types(type(self)) if (value := getattr(self, name)) is not None}
        for name, value in fields.items():
            self.require(name not in UNIT_INTERVAL_FIELDS or 0 <= value < 1, name, "must be from 0 to below 1")
            self.require(name not in POSITIVE_FIELDS or value > 0, name, "must be above 0")
            self.require(name not in NON_NEGATIVE_FIELDS or value >= 0, name, "must not be negative")
            self.require(name not in NON_POSITIVE_FIELDS or value <= 0, name, "must be 0 or negative")
        is_decoupled = field_default(type(self), "weight_decay") is not None
        self.require(
            self.weight_decay_mode != "l2" or not is_decoupled,
            "weight_decay_mode",
            f"{type(self).__name__} supports decoupled weight decay only; for l2 use an optimizer such as Adam or SGD",
        )
        for pattern in self.exclude_from_weight_decay:
            self.require_regex("exclude_from_weight_decay", pattern)

    def ignored_params(self) -> Mapping[str, str]:
        if self.weight_decay:
            return {}
        return {
            "exclude_from_weight_decay": "there is no weight_decay to exclude from",
            "weight_decay_mode": "there is no weight_decay",
        }

    @property
    def keras_class(self) -> type[keras.optimizers.Optimizer]:
        """The Keras class it is built as: the one of its name."""
        found: type[keras.optimizers.Optimizer] = getattr(keras.optimizers, type(self).__name__)
        return found

    def build(
        self,
        learning_rate: LearningRateSchedule,
        variables: Sequence[keras.Variable],
        has_rate_factor: bool = False,
        ema_momentum: float = 0.0,
        paths: Mapping[str, keras.Variable] | None = None,
        peak_lr: float = 1.0,
    ) -> keras.optimizers.Optimizer:
        """Return the Keras optimizer for these trainable variables.

        Args:
            has_rate_factor: the learning rate is multiplied by its variable `rate_factor`, which starts at 1.
            ema_momentum: it keeps moving averages of the weights, of which this part stays at each step.
            paths: the weights by the paths that `exclude_from_weight_decay` matches; by default their own.
            peak_lr: of the learning rate, for `weight_decay_mode` relative.

        Raises:
            UsageError: when a pattern of `exclude_from_weight_decay` matches no variable.
        """
        from tfaip_like._keras_ext.extended_optimizer import with_extensions

        values = {name: getattr(self, name) for name in field_types(type(self))}
        del values["exclude_from_weight_decay"], values["weight_decay_mode"]
        arguments = {KERAS_NAMES.get(name, name): value for name, value in values.items()}
        l2 = 0.0
        if self.weight_decay and self.weight_decay_mode == "l2":
            l2, arguments["weight_decay"] = self.weight_decay, None
        elif self.weight_decay and self.weight_decay_mode == "relative":
            arguments["weight_decay"] = self.weight_decay / peak_lr
        cls = with_extensions(self.keras_class, has_rate_factor, ema_momentum, l2)
        optimizer = cls(learning_rate=learning_rate, **arguments)
        if self.exclude_from_weight_decay:
            optimizer.exclude_from_weight_decay(var_list=self._variables_without_decay(variables, paths))
        optimizer.build(list(variables))
        return optimizer

    def _variables_without_decay(
        self, variables: Sequence[keras.Variable], paths: Mapping[str, keras.Variable] | None
    ) -> list[keras.Variable]:
        # By path and by ourselves: Keras matches its `var_names` against other names on each backend.
        path_of = {id(variable): path for path, variable in (paths or {}).items()}
        named = [(path_of.get(id(variable), variable.path), variable) for variable in variables]
        excluded = []
        for pattern in self.exclude_from_weight_decay:
            matching = [variable for path, variable in named if re.search(pattern, path)]
            if not matching:
                raise UsageError(
                    f"--optimizer.exclude_from_weight_decay {pattern}: no weight has such a path; they are "
                    f"{truncate_list([path for path, _ in named], limit=8)}"
                )
            excluded += matching
        return excluded
