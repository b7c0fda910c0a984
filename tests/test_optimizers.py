"""No flag of an optimizer is ignored: each is found again in the Keras object."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import keras
import numpy as np
import pytest
from conftest import slow

from tfaip_like import UsageError
from tfaip_like._keras_ext.adabelief import AdaBelief as KerasAdaBelief
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like.optimizers import SGD, AdaBelief, Adam, Optimizer, ScheduleFreeAdamW
from tfaip_like.optimizers._optimizer import Clipping
from tfaip_like.params._base import default_instance, field_default, field_types
from tfaip_like.params._field_rules import field_rules
from tfaip_like.params._tree import validate_params
from tfaip_like.params._variants import available_variants

OPTIMIZERS = available_variants(Optimizer)
KERAS_NAMES = {name: rule.keras_name for name, rule in field_rules(Optimizer, Clipping).items()}
NOT_CHOSEN_BY_NAME = {
    "Optimizer",  # the base
    "LossScaleOptimizer",  # wraps another one, for mixed precision
    "MultiOptimizer",  # holds several others
    "OptimizerMap",
}
BY_THE_TRAINER = {
    "learning_rate",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
    "name",
}


def other_value(default: Any, tp: Any) -> Any:
    """Return a legal value that is not the default."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, float):
        return default * 0.5 if default else 0.25
    if default is None:
        return 0.125
    if default == []:
        return ["dense"]
    raise AssertionError(f"{default!r} of {tp}")


def build(optimizer: Optimizer, **arguments: Any) -> tuple[Any, keras.Model]:
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="dense")])
    validate_params(optimizer)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    return optimizer.build(schedule, network.trainable_variables, **arguments), network


WITH_OWN_TESTS = ("weight_decay_mode", "lr_factors", "schedule")
ALL_FIELDS = [
    (name, field) for name, cls in OPTIMIZERS.items() for field in field_types(cls) if field not in WITH_OWN_TESTS
]


@pytest.mark.parametrize(("name", "field"), ALL_FIELDS)
def test_a_field_set_off_its_default_is_found_again_in_the_keras_object(name: str, field: str) -> None:
    cls = OPTIMIZERS[name]
    value = other_value(field_default(cls, field), field_types(cls)[field])
    if (name, field) == ("Ftrl", "weight_decay"):
        with pytest.raises(UsageError, match="has no effect in Ftrl"):
            validate_params(cls(**{field: value}))
        return
    if field == "exclude_from_weight_decay":
        if name == "Ftrl":
            return
        built, network = build(cls(weight_decay=0.1, exclude_from_weight_decay=["bias"]))
        kernel, bias = network.trainable_variables
        assert built._use_weight_decay(kernel)
        assert not built._use_weight_decay(bias)
        return
    default, _ = build(default_instance(cls))
    built, _ = build(cls(**{field: value}))
    keras_name = KERAS_NAMES.get(field, field)
    assert getattr(built, keras_name) == pytest.approx(value)
    assert getattr(default, keras_name) == pytest.approx(field_default(cls, field))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_arguments_of_keras_are_fields_with_the_same_defaults(name: str) -> None:
    cls = OPTIMIZERS[name]
    keras_class = default_instance(cls).keras_class
    of_all_optimizers = inspect.signature(keras.optimizers.Adamax.__init__).parameters
    common = {name: of_all_optimizers[name] for name in ("weight_decay", *KERAS_NAMES.values())}
    arguments = {**common, **inspect.signature(keras_class.__init__).parameters}
    for argument in list(arguments):
        if argument in {"self", "args", "kwargs", *BY_THE_TRAINER}:
            del arguments[argument]
    fields = {KERAS_NAMES.get(field, field): field_default(cls, field) for field in field_types(cls)}
    for field in ("exclude_from_weight_decay", *WITH_OWN_TESTS):
        del fields[field]
    for argument, parameter in arguments.items():
        if parameter.default is not inspect.Parameter.empty:
            default = [] if argument == "exclude_layers" else parameter.default
            assert fields.get(argument, "missing") == default, argument
    assert set(fields) == set(arguments)


def test_every_optimizer_of_keras_can_be_chosen() -> None:
    of_keras = {name for name in dir(keras.optimizers) if inspect.isclass(getattr(keras.optimizers, name))}
    assert of_keras - NOT_CHOSEN_BY_NAME <= set(OPTIMIZERS)


@pytest.mark.parametrize("name", [name if name in ("Adam", "Muon") else slow(name) for name in OPTIMIZERS])
def test_every_optimizer_makes_the_loss_smaller(name: str) -> None:
    random = np.random.default_rng(0)
    x = random.random((64, 3), dtype="float32")
    y = x @ random.random((3, 4), dtype="float32")
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 1000, 0.9)
    network.compile(default_instance(OPTIMIZERS[name]).build(schedule, network.trainable_variables), "mse")
    losses = network.fit(x, y, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "Ftrl"])
def test_weight_decay_shrinks_weights_of_every_optimizer(name: str) -> None:
    """Also where tfaip and others take the flag and ignore it."""

    def weights_after_a_step(weight_decay: float) -> np.ndarray[Any, Any]:
        arguments = {"adam_weight_decay": weight_decay} if name == "Muon" else {}
        kernel, bias = keras.Variable(np.ones((3, 4), "float32")), keras.Variable(np.zeros(4, "float32"))
        schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 1.0)
        optimizer = OPTIMIZERS[name](weight_decay=weight_decay, **arguments).build(schedule, [kernel, bias])
        optimizer.apply([keras.ops.zeros(kernel.shape), keras.ops.zeros(bias.shape)], [kernel, bias])
        return np.asarray(kernel)

    with_decay, without = weights_after_a_step(0.1), weights_after_a_step(0.0)
    np.testing.assert_allclose(with_decay / without, 1 - 0.1 * 0.5, rtol=1e-3)


@pytest.mark.parametrize(
    ("clipping", "expected"),
    [
        ({"clip_value": 0.5}, [[0.5, 0.5], [0.5, 0.5]]),
        ({"clip_norm": 5.0}, [[3.0, 4.0], [3.0, 4.0]]),
        ({"clip_global_norm": 5.0}, [[3 / 2**0.5, 4 / 2**0.5], [3 / 2**0.5, 4 / 2**0.5]]),
    ],
)
def test_clipping_limits_the_step(clipping: dict[str, float], expected: list[list[float]]) -> None:
    variables = [keras.Variable(np.zeros(2)), keras.Variable(np.zeros(2))]
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 10, 1.0)
    optimizer = SGD(**clipping).build(schedule, variables)
    optimizer.apply([keras.ops.convert_to_tensor([6.0, 8.0])] * 2, variables)
    np.testing.assert_allclose([-np.asarray(variable) for variable in variables], expected, rtol=1e-5)


def test_schedule_free_adamw_decays_as_in_the_paper() -> None:
    """Without gradients, z -= lr * weight_decay * y; x averages z; y = 0.1 z + 0.9 x."""
    variable = keras.Variable(np.ones(2))
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 1.0)
    optimizer = ScheduleFreeAdamW(weight_decay=0.1).build(schedule, [variable])
    z = x = y = 1.0
    for step in range(1, 21):
        optimizer.apply([keras.ops.zeros(2)], [variable])
        z -= 0.5 * 0.1 * y
        x += (z - x) / step
        y = 0.1 * z + 0.9 * x
        np.testing.assert_allclose(np.asarray(variable), [y, y], rtol=1e-4)


def test_schedule_free_adamw_averages_as_in_the_paper() -> None:
    variable = keras.Variable(np.ones(2))
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 1.0)
    optimizer = ScheduleFreeAdamW().build(schedule, [variable], has_rate_factor=True)
    z = x = 1.0
    for step in range(1, 21):
        optimizer.apply([keras.ops.ones(2)], [variable])
        z -= 0.5  # the size of every step, since gradients are all the same
        x += (z - x) / step
        np.testing.assert_allclose(np.asarray(variable), np.full(2, 0.1 * z + 0.9 * x), rtol=1e-4, atol=1e-4)
        ((of, average),) = optimizer.averages()
        assert of is variable
        np.testing.assert_allclose(np.asarray(average), [x, x], rtol=1e-4, atol=1e-4)


INFINITY = float("inf")
OUT_OF_RANGE: list[tuple[type[Optimizer], str, Any]] = [
    (Adam, "epsilon", -1.0),
    (Adam, "epsilon", 0.0),
    (Adam, "epsilon", float("nan")),
    (Adam, "beta_1", 1.0),
    (Adam, "weight_decay", -0.1),
    (Adam, "weight_decay", INFINITY),
    (Adam, "clip_norm", INFINITY),
    (Adam, "clip_value", 0.0),
    (OPTIMIZERS["Lion"], "beta_1", 0.0),
    (OPTIMIZERS["Ftrl"], "learning_rate_power", 1.0),
    (OPTIMIZERS["Ftrl"], "l1_regularization_strength", -1.0),
    (OPTIMIZERS["Ftrl"], "initial_accumulator_value", -1.0),
    (OPTIMIZERS["Adafactor"], "beta_2_decay", 0.8),
    (OPTIMIZERS["Muon"], "ns_steps", 0),
    (ScheduleFreeAdamW, "beta_1", 0.0),
    (ScheduleFreeAdamW, "warmup_steps", -1),
]


@pytest.mark.parametrize(("cls", "field", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_rejected_by_name(cls: type[Optimizer], field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{field}.*must "):
        validate_params(cls(**{field: value}))


def test_the_rate_factor_multiplies_any_schedule() -> None:
    optimizer, _ = build(Adam(), has_rate_factor=True)
    assert type(optimizer).__name__ == "Adam"
    optimizer.rate_factor.assign(0.1)
    assert float(optimizer.learning_rate) == pytest.approx(0.05)


def reference_adabelief(gradients: list[float], lr: float, rectify: bool, amsgrad: bool) -> float:
    """Return the paper's algorithm with plain numbers."""
    beta_1, beta_2, epsilon = 0.9, 0.999, 1e-14
    weight = mean = variance = largest = 0.0
    limit = 2 / (1 - beta_2) - 1
    for step, gradient in enumerate(gradients, start=1):
        mean = beta_1 * mean + (1 - beta_1) * gradient
        variance = beta_2 * variance + (1 - beta_2) * (gradient - mean) ** 2 + epsilon
        largest = max(largest, variance)
        used = largest if amsgrad else variance
        corrected = mean / (1 - beta_1**step)
        adaptive = corrected / ((used / (1 - beta_2**step)) ** 0.5 + epsilon)
        if rectify:
            length = limit - 2 * step * beta_2**step / (1 - beta_2**step)
            if length >= 5:
                ratio = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
                adaptive *= ratio**0.5
            else:
                adaptive = corrected
        weight -= lr * adaptive
    return weight


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adabelief_follows_the_paper(rectify: bool, amsgrad: bool) -> None:
    gradients = [1.0, -0.5, 0.25, 2.0, 1.0, 0.5, -1.0, 0.7, 0.1, 0.3]
    variable = keras.Variable(0.0)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 1.0)
    optimizer = AdaBelief(rectify=rectify, amsgrad=amsgrad).build(schedule, [variable])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    assert float(variable) == pytest.approx(reference_adabelief(gradients, 0.01, rectify, amsgrad), rel=1e-3)


def test_adabelief_is_restored_from_its_configuration() -> None:
    original = KerasAdaBelief(0.1, beta_1=0.8, rectify=False, weight_decay=0.1)
    assert KerasAdaBelief.from_config(original.get_config()).get_config() == original.get_config()


def test_weights_are_left_out_of_the_decay_by_the_paths_that_all_else_uses() -> None:
    x = keras.Input((3,))
    encoder = keras.Model(x, keras.layers.Dense(2, name="dense")(x), name="encoder")
    network = keras.Model(x, keras.layers.Dense(2, name="dense")(encoder(x)))
    paths = weight_paths(network)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    left_out = SGD(weight_decay=0.1, exclude_from_weight_decay=["^dense/"])
    optimizer = left_out.build(schedule, network.trainable_variables, paths=paths)
    for path, variable in paths.items():
        assert optimizer._use_weight_decay(variable) == path.startswith("encoder/")


def decayed(optimizer: Optimizer, gradients: list[float]) -> float:
    """Return the weight that was 1 while the rate falls from 0.5."""
    variable, other = keras.Variable(1.0, name="kernel"), keras.Variable(1.0, name="bias")
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    paths = {"kernel": variable, "bias": other}
    built = optimizer.build(schedule, [variable, other], paths=paths, peak_lr=0.5)
    for gradient in gradients:
        built.apply([keras.ops.convert_to_tensor(gradient)] * 2, [variable, other])
    without = dataclasses.replace(optimizer, weight_decay=None, exclude_from_weight_decay=[])
    if optimizer.weight_decay:
        assert float(other) == pytest.approx(decayed(without, gradients), rel=1e-6)
    return float(variable)


GRADIENTS = [0.1, -0.3, 0.5, 0.2]
NO_BIAS = {"weight_decay": 0.02, "exclude_from_weight_decay": ["bias"]}


def test_l2_decay_of_adam_is_that_of_pytorch() -> None:
    """Return its algorithm with plain numbers: the gradient grows by weight_decay times the weight."""
    weight, mean, square = 1.0, 0.0, 0.0
    for step, gradient in enumerate(GRADIENTS):
        gradient += 0.02 * weight
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        corrected, size = mean / (1 - 0.9 ** (step + 1)), (square / (1 - 0.999 ** (step + 1))) ** 0.5
        weight -= 0.5 * 0.9 ** (step / 10) * corrected / (size + 1e-7)
    assert decayed(Adam(**NO_BIAS, weight_decay_mode="l2"), GRADIENTS) == pytest.approx(weight, rel=1e-4)


def test_l2_decay_is_not_clipped() -> None:
    found = decayed(SGD(**NO_BIAS, weight_decay_mode="l2", clip_value=0.01), [5.0])
    assert found == pytest.approx(1 - 0.5 * (0.01 + 0.02), rel=1e-6)


def test_relative_decay_is_that_of_the_rate_as_a_part_of_its_highest_value() -> None:
    weight = 1.0
    for step in range(4):
        weight *= 1 - 0.02 * 0.9 ** (step / 10)
    assert decayed(SGD(**NO_BIAS, weight_decay_mode="relative"), [0.0] * 4) == pytest.approx(weight, rel=1e-6)


@pytest.mark.parametrize("name", ["AdamW", "Muon", "ScheduleFreeAdamW"])
def test_l2_is_rejected_where_the_decay_is_decoupled_by_definition(name: str) -> None:
    with pytest.raises(UsageError, match="weight_decay_mode.* supports decoupled weight decay only"):
        validate_params(OPTIMIZERS[name](weight_decay_mode="l2"))


@pytest.mark.parametrize(
    "name", [name for name in OPTIMIZERS if name not in ("AdamW", "Muon", "ScheduleFreeAdamW", "Ftrl")]
)
def test_l2_decay_shrinks_weights_in_every_other_optimizer(name: str) -> None:
    built, network = build(OPTIMIZERS[name](weight_decay=0.5, weight_decay_mode="l2"))
    kernel = network.trainable_variables[0]
    before = np.abs(kernel.numpy()).sum()
    for _ in range(3):
        built.apply([keras.ops.zeros(variable.shape) for variable in network.trainable_variables])
    assert np.abs(kernel.numpy()).sum() < before


def step_sizes(optimizer: Optimizer, num_steps: int = 1, **arguments: Any) -> list[float]:
    """Return the changes of the weights `backbone` and `head`, which are 1, by the same gradients."""
    variables = [keras.Variable(np.full((2, 2), 1.0, "float32")) for _ in range(2)]
    paths = dict(zip(("backbone/kernel", "head/kernel"), variables, strict=True))
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 1.0)
    built = optimizer.build(schedule, variables, paths=paths, **arguments)
    gradient = keras.ops.convert_to_tensor([[1.0, -2.0], [0.5, 3.0]])
    for _ in range(num_steps):
        built.apply([gradient, gradient], variables)
    return [float(np.asarray(variable)[0, 0]) - 1.0 for variable in variables]


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("Ftrl", "Muon")])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_learning_rate_factor_scales_the_update_of_every_optimizer(name: str, decay: float) -> None:
    backbone, head = step_sizes(OPTIMIZERS[name](weight_decay=decay, lr_factors={"backbone": 0.1}))
    (_, same) = step_sizes(OPTIMIZERS[name](weight_decay=decay))
    assert head == pytest.approx(same, rel=1e-5)
    # Decay and update follow one another, and float32 has an error of 1e-7 next to 1.
    assert backbone == pytest.approx(0.1 * head, rel=2e-2)


@pytest.mark.parametrize("name", ["Ftrl", "Muon"])
def test_a_learning_rate_factor_is_that_of_a_lower_rate(name: str) -> None:
    backbone, _ = step_sizes(OPTIMIZERS[name](lr_factors={"backbone": 0.1}))
    lower, _ = step_sizes(OPTIMIZERS[name](lr_factors={".": 0.1}))
    assert backbone == lower


def test_learning_rate_factors_of_adamw_follow_a_computation_by_hand() -> None:
    def by_hand(lr: float) -> float:
        weight, mean, square = 1.0, 0.0, 0.0
        for step in range(1, 6):
            mean, square = 0.9 * mean + 0.1, 0.999 * square + 0.001
            corrected, size = mean / (1 - 0.9**step), (square / (1 - 0.999**step)) ** 0.5
            weight -= lr * 0.004 * weight
            weight -= lr * corrected / (size + 1e-7)
        return weight - 1

    optimizer = OPTIMIZERS["AdamW"](lr_factors={"kernel": 10.0, "backbone": 0.1})
    expected = [by_hand(0.001), by_hand(0.1)]
    assert step_sizes(optimizer, 5) == pytest.approx(expected, rel=1e-3)
    assert step_sizes(optimizer, 5, has_rate_factor=True, ema_momentum=0.9) == pytest.approx(expected, rel=1e-3)


def test_momentum_keeps_the_learning_rate_factor() -> None:
    velocity = weight = 0.0
    for _ in range(4):
        velocity = 0.9 * velocity - 0.5 * 0.01
        weight += velocity
    backbone, _ = step_sizes(SGD(momentum=0.9, lr_factors={"backbone": 0.5}), 4)
    assert backbone == pytest.approx(weight, rel=1e-4)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="applies in compiled steps only")
def test_learning_rate_factors_reach_the_optimizer_of_a_loss_scale() -> None:
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="dense")])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 1.0)
    inner = SGD(lr_factors={"kernel": 0.5}).build(schedule, network.trainable_variables)
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0)
    scaled.build(network.trainable_variables)
    kernel, bias = network.trainable_variables
    before = np.asarray(kernel)
    scaled.apply([keras.ops.full(kernel.shape, 4.0), keras.ops.full(bias.shape, 4.0)], [kernel, bias])
    np.testing.assert_allclose(before - np.asarray(kernel), 0.25, rtol=1e-5)
    np.testing.assert_allclose(-np.asarray(bias), 0.5, rtol=1e-5)


def test_the_learning_rate_that_is_logged_has_no_factor() -> None:
    optimizer, _ = build(Adam(lr_factors={"dense": 0.1}, weight_decay=0.1))
    assert float(optimizer.learning_rate) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"dense": 0.0}, "must be above 0; freeze layers by --trainer.no_train_scope"),
        ({"(": 0.5}, "lr_factors"),
    ],
)
def test_a_learning_rate_factor_that_cannot_be_used_is_rejected(factors: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        validate_params(Adam(lr_factors=factors))


def test_a_learning_rate_factor_without_a_weight_lists_the_weights() -> None:
    with pytest.raises(UsageError, match=r"--optimizer.lr_factors conv: no trainable weight matches; .*dense/kernel"):
        build(Adam(lr_factors={"conv": 0.1}))
