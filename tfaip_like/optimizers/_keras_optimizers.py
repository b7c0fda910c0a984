"""Every optimizer of Keras, and AdaBelief.

Fields are Keras' own, under Keras' names and with Keras' defaults.
"""

from __future__ import annotations

from collections.abc import Mapping

from tfaip_like._utils.lazy_keras import keras
from tfaip_like.optimizers._base import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted."""

    momentum: float = 0.0
    """Share of the last step that is added to the next; 0 is plain descent."""

    nesterov: bool = False
    """Nesterov momentum: the gradient is taken where the momentum leads."""

    def ignored_params(self) -> Mapping[str, str]:
        none = {} if self.momentum else {"nesterov": "there is no momentum (--optimizer.momentum)"}
        return {**super().ignored_params(), **none}


class Adam(Optimizer):
    """Step sizes from running means of gradient and squared gradient (https://arxiv.org/abs/1412.6980)."""

    beta_1: float = 0.9
    """Decay of the running mean of gradients."""

    beta_2: float = 0.999
    """Decay of the running mean of squared gradients."""

    epsilon: float = 1e-7
    """Added to the denominator, against division by 0."""

    amsgrad: bool = False
    """Never let the denominator shrink (https://openreview.net/forum?id=ryQu7f-RZ)."""


class AdamW(Optimizer):
    """Adam with weight decay by default (https://arxiv.org/abs/1711.05101)."""

    weight_decay = 0.004

    beta_1: float = 0.9
    """Decay of the running mean of gradients."""

    beta_2: float = 0.999
    """Decay of the running mean of squared gradients."""

    epsilon: float = 1e-7
    """Added to the denominator, against division by 0."""

    amsgrad: bool = False
    """Never let the denominator shrink."""


class Adamax(Optimizer):
    """Adam with the largest instead of the mean squared gradient (https://arxiv.org/abs/1412.6980)."""

    beta_1: float = 0.9
    """Decay of the running mean of gradients."""

    beta_2: float = 0.999
    """Decay of the running maximum."""

    epsilon: float = 1e-7
    """Added to the denominator, against division by 0."""


class AdaBelief(Optimizer):
    """Adam that trusts a gradient more the less it surprises (https://arxiv.org/abs/2010.07468)."""

    beta_1: float = 0.9
    """Decay of the running mean of gradients."""

    beta_2: float = 0.999
    """Decay of the running mean of squared surprise (gradient minus its mean)."""

    epsilon: float = 1e-14
    """Added to the squared surprise and to the denominator."""

    amsgrad: bool = False
    """Never let the denominator shrink."""

    rectify: bool = True
    """Begin without adaptive steps, until their variance is small (https://arxiv.org/abs/1908.03265)."""

    sma_threshold: float = 5.0
    """With `rectify`: length of the running mean from which steps are adaptive."""

    def ignored_params(self) -> Mapping[str, str]:
        none = {} if self.rectify else {"sma_threshold": "--optimizer.rectify is false"}
        return {**super().ignored_params(), **none}

    @property
    def keras_class(self) -> type[keras.optimizers.Optimizer]:
        from tfaip_like._keras_ext.adabelief import AdaBelief as KerasAdaBelief

        return KerasAdaBelief


class RMSprop(Optimizer):
    """Gradients divided by the root of their running mean square (Hinton 2012)."""

    rho: float = 0.9
    """Decay of the running mean square."""

    momentum: float = 0.0
    """Share of the last step that is added to the next."""

    epsilon: float = 1e-7
    """Added to the denominator, against division by 0."""

    centered: bool = False
    """Divide by the running variance instead of the mean square."""


class Nadam(Optimizer):
    """Adam with Nesterov momentum (Dozat 2015)."""

    beta_1: float = 0.9
    """Decay of the running mean of gradients."""

    beta_2: float = 0.999
    """Decay of the running mean of squared gradients."""

    epsilon: float = 1e-7
    """Added to the denominator, against division by 0."""


class Lion(Optimizer):
    """The sign of a momentum; wants a 3 to 10 times smaller rate than Adam (https://arxiv.org/abs/2302.06675)."""

    beta_1: float = 0.9
    """Share of the momentum in a step."""

    beta_2: float = 0.99
    """Decay of the momentum."""

    def check(self) -> None:
        super().check()
        self.require(self.beta_1 > 0, "beta_1", "must be above 0: without momentum nothing is left of Lion")


class Lamb(Optimizer):
    """Adam with steps in proportion to each layer's weights, for large batches (https://arxiv.org/abs/1904.00962)."""

    beta_1: float = 0.9
    """Decay of the running mean of gradients."""

    beta_2: float = 0.999
    """Decay of the running mean of squared gradients."""

    epsilon: float = 1e-7
    """Added to the denominator, against division by 0."""


class Muon(Optimizer):
    """Orthogonal steps for matrices, AdamW for all other weights (https://kellerjordan.github.io/posts/muon/)."""

    weight_decay = 0.004

    adam_beta_1: float = 0.9
    """AdamW: decay of the running mean of gradients."""

    adam_beta_2: float = 0.999
    """AdamW: decay of the running mean of squared gradients."""

    adam_weight_decay: float | None = 0.004
    """AdamW: weight decay."""

    epsilon: float = 1e-7
    """Added to denominators, against division by 0."""

    exclude_layers: list[str] = []
    """Regular expressions; weights whose path matches one are left to AdamW."""

    exclude_embeddings: bool = True
    """Leave embeddings to AdamW."""

    muon_a: float = 3.4445
    """First coefficient of the Newton-Schulz iteration."""

    muon_b: float = -4.775
    """Second coefficient of the Newton-Schulz iteration."""

    muon_c: float = 2.0315
    """Third coefficient of the Newton-Schulz iteration."""

    adam_lr_ratio: float = 1.0
    """Learning rate of AdamW, as a multiple of the learning rate."""

    momentum: float = 0.95
    """Decay of the momentum."""

    ns_steps: int = 5
    """Steps of the Newton-Schulz iteration."""

    nesterov: bool = True
    """Nesterov momentum."""

    rms_rate: float | None = 0.2
    """Scale steps to this root mean square, so that the rates of AdamW fit; none scales by shape."""


class Adagrad(Optimizer):
    """Rates that shrink with the sum of squared gradients (Duchi et al. 2011)."""

    initial_accumulator_value: float = 0.1
    """Where the sum begins."""

    epsilon: float = 1e-7
    """Added to the denominator, against division by 0."""


class Adadelta(Optimizer):
    """Steps in proportion to the running size of earlier steps (https://arxiv.org/abs/1212.5701)."""

    rho: float = 0.95
    """Decay of both running means."""

    epsilon: float = 1e-7
    """Added to both running means."""


class Adafactor(Optimizer):
    """Adam with little memory: squared gradients by row and column (https://arxiv.org/abs/1804.04235)."""

    beta_2_decay: float = -0.8
    """Exponent of the decay of the running mean."""

    epsilon_1: float = 1e-30
    """Added to squared gradients."""

    epsilon_2: float = 0.001
    """Least size of a weight in relative steps."""

    clip_threshold: float = 1.0
    """Limit of the root mean square of a step."""

    relative_step: bool = True
    """Limit the rate by the inverse root of the step."""


class Ftrl(Optimizer):
    """Follow the regularised leader, for sparse linear models (McMahan et al. 2013)."""

    learning_rate_power: float = -0.5
    """How the rate shrinks with the sum of squared gradients; at most 0."""

    initial_accumulator_value: float = 0.1
    """Where the sum of squared gradients begins."""

    l1_regularization_strength: float = 0.0
    """Pulls weights to exactly 0."""

    l2_regularization_strength: float = 0.0
    """Shrinks weights."""

    l2_shrinkage_regularization_strength: float = 0.0
    """Shrinks weights by a penalty on their size, not on the accumulated gradients."""

    beta: float = 0.0
    """Added to the denominator."""

    def check(self) -> None:
        super().check()
        # Measured: Keras decays the weights, then Ftrl computes them anew from its sums.
        self.require(
            not self.weight_decay, "weight_decay", "has no effect in Ftrl; use l2_regularization_strength instead"
        )


class ScheduleFreeAdamW(Optimizer):
    """AdamW that needs no schedule: it averages its own weights (https://arxiv.org/abs/2405.15682). As in the paper,
    the average is validated and exported (unless `--trainer.calc_ema` averages in its own way)."""

    beta_1: float = 0.9
    """Share of the average in the point where gradients are taken."""

    beta_2: float = 0.999
    """Decay of the running mean of squared gradients."""

    epsilon: float = 1e-8
    """Added to the denominator, against division by 0."""

    warmup_steps: int = 0
    """Steps in which the rate rises to its full size."""

    def check(self) -> None:
        super().check()
        self.require(self.beta_1 > 0, "beta_1", "must be above 0: the average is found by dividing by it")
        self.require(
            self.weight_decay_mode != "l2",
            "weight_decay_mode",
            "ScheduleFreeAdamW supports decoupled weight decay only",
        )

    @property
    def keras_class(self) -> type[keras.optimizers.Optimizer]:
        from tfaip_like._keras_ext.schedule_free import ScheduleFreeAdamW as DecayingScheduleFreeAdamW

        return DecayingScheduleFreeAdamW
