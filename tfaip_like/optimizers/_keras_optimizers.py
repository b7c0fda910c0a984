"""Settings of all Keras optimizers and of AdaBelief.

The fields are the arguments of the Keras class, with the same names and defaults.
"""

from __future__ import annotations

from typing import Annotated

from tfaip_like._utils.lazy_keras import keras
from tfaip_like.optimizers._optimizer import Optimizer
from tfaip_like.optimizers._ranges import (
    NonNegative,
    NonNegativeInt,
    NonPositive,
    Positive,
    PositiveInt,
    UnitInterval,
)
from tfaip_like.params._field_rules import Requires


class SGD(Optimizer):
    """Stochastic gradient descent with optional momentum.

    Example:
        >>> SGD(momentum=0.9, nesterov=True)
        SGD(momentum=0.9, nesterov=True)
    """

    momentum: UnitInterval = 0.0
    """Momentum, in [0, 1): fraction of the previous update added to the next; 0 disables it."""

    nesterov: Annotated[bool, Requires("momentum", "momentum is 0 (--optimizer.momentum)")] = False
    """Nesterov momentum: evaluate the gradient after the momentum step."""


class _AdaptiveMoments(Optimizer):
    """Settings of Adam and the optimizers that differ from it elsewhere."""

    beta_1: UnitInterval = 0.9
    """Decay rate of the moving average of gradients (first moment), in [0, 1)."""

    beta_2: UnitInterval = 0.999
    """Decay rate of the moving average of squared gradients (second moment), in [0, 1)."""

    epsilon: Positive = 1e-7
    """Constant added to the denominator for numerical stability."""


class Adam(_AdaptiveMoments):
    """Adaptive step sizes from moving averages of gradients and their squares (https://arxiv.org/abs/1412.6980).

    Example:
        >>> Adam(beta_2=0.98, weight_decay=0.01)
        Adam(weight_decay=0.01, beta_2=0.98)
    """

    amsgrad: bool = False
    """AMSGrad: use the maximum of all second moments so far (https://openreview.net/forum?id=ryQu7f-RZ)."""


class AdamW(_AdaptiveMoments):
    """Adam with decoupled weight decay (https://arxiv.org/abs/1711.05101)."""

    weight_decay = 0.004

    amsgrad: bool = False
    """AMSGrad: use the maximum of all second moments so far."""


class Adamax(Optimizer):
    """Adam with the infinity norm instead of the second moment (https://arxiv.org/abs/1412.6980)."""

    beta_1: UnitInterval = 0.9
    """Decay rate of the moving average of gradients (first moment), in [0, 1)."""

    beta_2: UnitInterval = 0.999
    """Decay rate of the running infinity norm, in [0, 1)."""

    epsilon: Positive = 1e-7
    """Constant added to the denominator for numerical stability."""


class AdaBelief(Optimizer):
    """Adam that scales steps by the variance of the gradients (https://arxiv.org/abs/2010.07468)."""

    beta_1: UnitInterval = 0.9
    """Decay rate of the moving average of gradients (first moment), in [0, 1)."""

    beta_2: UnitInterval = 0.999
    """Decay rate of the moving average of (gradient - first moment) squared, in [0, 1)."""

    epsilon: Positive = 1e-14
    """Constant added to the second moment and to the denominator for numerical stability."""

    amsgrad: bool = False
    """AMSGrad: use the maximum of all second moments so far."""

    rectify: bool = True
    """Rectification: no adaptive step sizes until their variance is small (https://arxiv.org/abs/1908.03265)."""

    sma_threshold: Annotated[float, Requires("rectify", "--optimizer.rectify is false")] = 5.0
    """Length of the simple moving average from which steps are adaptive; used with rectify."""

    @property
    def keras_class(self) -> type[keras.optimizers.Optimizer]:
        from tfaip_like._keras_ext.adabelief import AdaBelief as KerasAdaBelief

        return KerasAdaBelief


class RMSprop(Optimizer):
    """Gradients divided by the root of their moving mean square (Hinton 2012)."""

    rho: UnitInterval = 0.9
    """Decay rate of the moving mean square of gradients, in [0, 1)."""

    momentum: UnitInterval = 0.0
    """Momentum, in [0, 1): fraction of the previous update added to the next; 0 disables it."""

    epsilon: Positive = 1e-7
    """Constant added to the denominator for numerical stability."""

    centered: bool = False
    """Normalize by the variance of gradients instead of their mean square."""


class Nadam(_AdaptiveMoments):
    """Adam with Nesterov momentum (Dozat 2015)."""


class Lion(Optimizer):
    """Steps by the sign of the momentum; use a learning rate 3 to 10 times below Adam's (https://arxiv.org/abs/2302.06675)."""

    beta_1: UnitInterval = 0.9
    """Interpolation factor between momentum and gradient in an update, in (0, 1)."""

    beta_2: UnitInterval = 0.99
    """Decay rate of the momentum, in [0, 1)."""

    def check(self) -> None:
        super().check()
        self.require(self.beta_1 > 0, "beta_1", "must be above 0: Lion requires momentum")


class Lamb(_AdaptiveMoments):
    """Adam with layer-wise step sizes, for large batches (https://arxiv.org/abs/1904.00962)."""


class Muon(Optimizer):
    """Orthogonalized momentum for matrices, AdamW elsewhere (https://kellerjordan.github.io/posts/muon/)."""

    weight_decay = 0.004

    adam_beta_1: UnitInterval = 0.9
    """Decay rate of the first moment in AdamW, in [0, 1)."""

    adam_beta_2: UnitInterval = 0.999
    """Decay rate of the second moment in AdamW, in [0, 1)."""

    adam_weight_decay: NonNegative | None = 0.004
    """Weight decay in AdamW; none disables it."""

    epsilon: Positive = 1e-7
    """Constant added to denominators for numerical stability."""

    exclude_layers: list[str] = []
    """Regular expressions; weights whose path matches one are trained with AdamW."""

    exclude_embeddings: bool = True
    """Train embeddings with AdamW."""

    muon_a: float = 3.4445
    """First coefficient of the Newton-Schulz iteration."""

    muon_b: float = -4.775
    """Second coefficient of the Newton-Schulz iteration."""

    muon_c: float = 2.0315
    """Third coefficient of the Newton-Schulz iteration."""

    adam_lr_ratio: Positive = 1.0
    """Ratio of AdamW's learning rate to the learning rate."""

    momentum: UnitInterval = 0.95
    """Decay rate of the momentum, in [0, 1)."""

    ns_steps: PositiveInt = 5
    """Number of Newton-Schulz iterations."""

    nesterov: bool = True
    """Use Nesterov momentum."""

    rms_rate: Positive | None = 0.2
    """Root mean square to scale updates to, so that AdamW's learning rates apply; none scales them by their shape."""


class Adagrad(Optimizer):
    """Step sizes from the accumulated squared gradients (Duchi et al. 2011)."""

    initial_accumulator_value: NonNegative = 0.1
    """Initial value of the accumulated squared gradients."""

    epsilon: Positive = 1e-7
    """Constant added to the denominator for numerical stability."""


class Adadelta(Optimizer):
    """Step sizes from moving averages of squared gradients and updates (https://arxiv.org/abs/1212.5701)."""

    rho: UnitInterval = 0.95
    """Decay rate of both moving averages, in [0, 1)."""

    epsilon: Positive = 1e-7
    """Constant added to both moving averages for numerical stability."""


class Adafactor(Optimizer):
    """Adam with factored second moments, which need little memory (https://arxiv.org/abs/1804.04235)."""

    beta_2_decay: NonPositive = -0.8
    """Exponent of the step in the decay rate of the second moment; at most 0."""

    epsilon_1: Positive = 1e-30
    """Constant added to squared gradients for numerical stability."""

    epsilon_2: Positive = 0.001
    """Lower bound of the root mean square of a weight, by which updates are scaled."""

    clip_threshold: Positive = 1.0
    """Threshold of the root mean square of an update, above which it is clipped."""

    relative_step: bool = True
    """Cap the learning rate at 1 / sqrt(step)."""


class Ftrl(Optimizer):
    """FTRL (follow the regularized leader), for sparse linear models (McMahan et al. 2013)."""

    learning_rate_power: NonPositive = -0.5
    """Exponent of the accumulated squared gradients in the learning rate; at most 0."""

    initial_accumulator_value: NonNegative = 0.1
    """Initial value of the accumulated squared gradients."""

    l1_regularization_strength: NonNegative = 0.0
    """L1 penalty, which sets small weights to 0; 0 disables it."""

    l2_regularization_strength: NonNegative = 0.0
    """L2 penalty; 0 disables it."""

    l2_shrinkage_regularization_strength: NonNegative = 0.0
    """L2 penalty on the size of the weights instead of the accumulated gradients; 0 disables it."""

    beta: NonNegative = 0.0
    """Constant added to the denominator."""

    def check(self) -> None:
        super().check()
        # Measured: Keras decays the weights, then Ftrl overwrites them with values from its accumulators.
        self.require(
            not self.weight_decay, "weight_decay", "has no effect in Ftrl; use l2_regularization_strength instead"
        )


class ScheduleFreeAdamW(Optimizer):
    """Schedule-free AdamW: averages weights instead of decaying the learning rate (https://arxiv.org/abs/2405.15682).

    As in the paper, the averaged weights are validated and exported; with `--trainer.calc_ema`, the EMA is.
    """

    beta_1: UnitInterval = 0.9
    """Weight of the average in the point at which gradients are evaluated, in (0, 1)."""

    beta_2: UnitInterval = 0.999
    """Decay rate of the moving average of squared gradients (second moment), in [0, 1)."""

    epsilon: Positive = 1e-8
    """Constant added to the denominator for numerical stability."""

    warmup_steps: NonNegativeInt = 0
    """Number of steps of linear warm-up; 0 disables it."""

    def check(self) -> None:
        super().check()
        self.require(self.beta_1 > 0, "beta_1", "must be above 0: the average is computed by dividing by it")
        self.require(
            self.weight_decay_mode != "l2",
            "weight_decay_mode",
            "ScheduleFreeAdamW supports decoupled weight decay only",
        )

    @property
    def keras_class(self) -> type[keras.optimizers.Optimizer]:
        from tfaip_like._keras_ext.schedule_free import ScheduleFreeAdamW as DecayingScheduleFreeAdamW

        return DecayingScheduleFreeAdamW
