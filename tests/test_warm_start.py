"""Trainings that begin with weights of an earlier one."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import REPOSITORY, run_command
from nested import Nested
from small import Line, Points, small

from tfaip_like import Data, Tensors, UsageError, train
from tfaip_like._export.writing import write_export
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.initialization.warm_start import WarmStartReport, warm_start
from tfaip_like.modeling._network import Networks, build_networks
from tfaip_like.settings import WarmStart

Values = dict[str, np.ndarray[Any, Any]]


class Named(Line):
    """A network whose layers have names that a test chooses."""

    names: list[str] = ["hidden", "add"]
    """Of the hidden layer and the output."""

    width: int = 8
    """Of the hidden layer."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Dense(self.width, activation="relu", name=self.names[0])(inputs["x"])
        return {"sum": keras.layers.Dense(1, name=self.names[1])(hidden)[:, 0]}


class Backwards(Line):
    """Thinks its first epoch the best."""

    best = "val_loss", "max"


class Copied(Line):
    """Predicts with other layers around those that were trained, and without one of them."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Dense(8, name="hidden")(inputs["x"])
        return {
            "sum": keras.layers.Dense(1, name="add")(hidden)[:, 0],
            "side": keras.layers.Dense(2, name="only_in_training")(hidden),
        }

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors:
        inside = keras.Sequential([trained.get_layer("hidden"), trained.get_layer("add")], name="around")
        return {"sum": inside(inputs["x"])[:, 0]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> OutputDir:
    """Provide the folder of a run of two epochs; the first one is the best."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(small(folder, model=Backwards(), trainer={"epochs": 2}))
    assert json.loads((folder / "summary.json").read_text())["best"]["epoch"] == 1
    return OutputDir(folder)


def network_of(model: Line, data: Data | None = None) -> keras.Model:
    """Layer with direct weights."""
    return build_networks(model, data or Points()).training


def values(network: keras.Model) -> Values:
    return {path: np.array(weight) for path, weight in weight_paths(network).items()}


def saved(file: Path) -> Values:
    with np.load(file) as arrays:
        return dict(arrays)


def same(a: Values, b: Values) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


# From where.


@pytest.mark.parametrize(
    ("place", "epoch", "file"),
    [
        ("", 1, "best/weights.npz"),
        ("best", 1, "best/weights.npz"),
        ("export", 2, "export/weights.npz"),
        ("best/model.keras", 1, "best/model.keras"),
        ("checkpoints/epoch_0001", 1, "checkpoints/epoch_0001/variables.npz"),
        ("checkpoints/epoch_0002", 2, "checkpoints/epoch_0002/variables.npz"),
    ],
)
def test_weights_are_found_in_each_part_of_a_run(run: OutputDir, place: str, epoch: int, file: str) -> None:
    network = network_of(Line())
    report = warm_start(network, WarmStart(model=run.path / place))
    expected = saved((run.best if epoch == 1 else run.export) / "weights.npz")
    assert same(values(network), expected)
    assert report == WarmStartReport(
        file=run.path / file, loaded=tuple(expected), missing={}, shape_mismatch={}, excluded=(), unused={}
    )


def test_a_run_that_was_stopped_has_its_best_else_its_last_else_its_newest_checkpoint(
    run: OutputDir, tmp_path: Path
) -> None:
    copy = OutputDir(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    for gone, then in ((copy.best, copy.export), (copy.export, copy.checkpoints / "epoch_0002")):
        shutil.rmtree(gone)
        assert warm_start(network_of(Line()), WarmStart(model=copy.path)).file.parent == then


def test_a_training_starts_with_the_loaded_weights_and_logs_them(run: OutputDir, tmp_path: Path) -> None:
    frozen = {"epochs": 1, "no_train_scope": "hidden"}
    result = train(small(tmp_path / "next", trainer=frozen, warmstart=WarmStart(model=run.path)))
    before, after = saved(run.best / "weights.npz"), values(result.network)
    moved = [path for path in before if not np.array_equal(before[path], after[path])]
    assert moved == ["add/kernel", "add/bias"]
    assert np.abs(before["add/kernel"] - after["add/kernel"]).max() < 0.05, "it continues from there"
    log = (tmp_path / "next" / "train.log").read_text()
    assert f"warm start: loaded 4 of 4 weights from {run.best / 'weights.npz'}\n" in log


def test_layers_in_layers_and_statistics_come_back_from_each_kind_of_file(tmp_path: Path) -> None:
    network = network_of(Nested())
    for weight in network.weights:
        weight.assign(np.random.default_rng(3).random(weight.shape))
    network.save(tmp_path / "model.keras")
    network.save_weights(tmp_path / "model.weights.h5")
    np.savez(tmp_path / "arrays.npz", **values(network))  # type: ignore[arg-type]
    for file in ("model.keras", "model.weights.h5", "arrays.npz"):
        another = network_of(Nested())
        report = warm_start(another, WarmStart(model=tmp_path / file))
        assert same(values(another), values(network)), file
        assert not report.unused, file


def test_an_export_has_what_was_trained_though_prediction_has_less_under_other_names(tmp_path: Path) -> None:
    networks = build_networks(Copied(), Points())
    write_export(tmp_path / "export", networks, small(model=Copied()), {})
    another = network_of(Copied())
    warm_start(another, WarmStart(model=tmp_path / "export"))
    assert same(values(another), values(networks.training))
    with pytest.raises(UsageError, match=r"hidden/kernel \(2, 8\) is missing \(did you mean around/hidden/0"):
        warm_start(another, WarmStart(model=tmp_path / "export" / "model.keras"))
    rules = WarmStart(model=tmp_path / "export" / "model.keras", rename=["around/->"], exclude=["only_in_training"])
    assert len(warm_start(network_of(Copied()), rules).loaded) == 4


def test_weights_of_bfloat16_are_kept_as_float32(tmp_path: Path) -> None:
    x = keras.Input((2,), name="x")
    network = keras.Model({"x": x}, {"y": keras.layers.Dense(1, name="half", dtype="bfloat16")(x)})
    write_export(tmp_path / "export", Networks(network, network), small(), {})
    before = [np.asarray(keras.ops.cast(weight, "float32")) for weight in network.weights]
    network.set_weights([np.zeros(weight.shape) for weight in network.weights])
    warm_start(network, WarmStart(model=tmp_path / "export"))
    after = [np.asarray(keras.ops.cast(weight, "float32")) for weight in network.weights]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


ELSEWHERE = '''
from small import Line, Small
from tfaip_like import keras
from tfaip_like import Model

class Strange(keras.layers.Dense):
    """Not to be found by the one who loads its weights."""

class Own(Line):
    def build(self, inputs):
        hidden = Strange(8, activation="relu", name="hidden")(inputs["x"])
        return {"sum": Strange(1, name="add")(hidden)[:, 0]}

class Elsewhere(Small):
    model: Model = Own()
'''


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a run with custom layers, on another backend, by another process."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "elsewhere.py").write_text(ELSEWHERE)
    words = ("elsewhere.py", "--trainer.epochs", 1, "--trainer.output_dir", "run", "--device.backend", "jax")
    done = run_command(
        "train-scenario",
        *words,
        cwd=folder,
        environment={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["", "checkpoints/epoch_0001", "best/model.keras"])
def test_neither_the_code_of_the_other_scenario_nor_its_backend_is_needed(elsewhere: Path, place: str) -> None:
    network = network_of(Line())
    warm_start(network, WarmStart(model=elsewhere / place))
    assert same(values(network), saved(elsewhere / "best" / "weights.npz"))
    assert keras.backend.backend() == "tensorflow"


# What is loaded.


def test_rules_rename_the_paths_there_one_after_another(run: OutputDir) -> None:
    network = network_of(Named(names=["first", "last"]))
    rules = [r"^(hidden|add)/->old_\1/", "old_hidden->first", "^old_add/->last/"]
    report = warm_start(network, WarmStart(model=run.path, rename=rules))
    expected = saved(run.best / "weights.npz")
    assert report.loaded == ("first/kernel", "first/bias", "last/kernel", "last/bias")
    assert all(np.array_equal(a, b) for a, b in zip(values(network).values(), expected.values(), strict=True))


@pytest.mark.parametrize(
    ("settings", "loaded"),
    [
        ({"include": ["hidden"]}, ["hidden/kernel", "hidden/bias"]),
        ({"include": ["^hidden/k", "bias$"]}, ["hidden/kernel", "hidden/bias", "add/bias"]),
        ({"exclude": ["kernel"]}, ["hidden/bias", "add/bias"]),
        ({"include": ["hidden"], "exclude": ["bias"]}, ["hidden/kernel"]),
    ],
)
def test_include_and_exclude_choose_weights_here_and_the_others_stay(
    run: OutputDir, settings: dict[str, Any], loaded: list[str]
) -> None:
    network = network_of(Line())
    before, there = values(network), saved(run.best / "weights.npz")
    report = warm_start(network, WarmStart(model=run.path, **settings))
    assert list(report.loaded) == loaded
    assert set(report.excluded) == set(before) - set(loaded)
    assert report.unused == {path: "excluded" for path in before if path not in loaded}
    expected = {path: (there if path in loaded else before)[path] for path in before}
    assert same(values(network), expected)


def test_mismatched_weights_keep_their_initial_values_if_allowed(
    run: OutputDir, caplog: pytest.LogCaptureFixture
) -> None:
    network = network_of(Named(names=["hidden", "sum"], width=4))
    before = values(network)
    with caplog.at_level("INFO", "tfaip_like"):
        settings = WarmStart(model=run.path, rename=["add/bias->sum/bias"], allow_partial=True)
        report = warm_start(network, settings)
    assert report.loaded == ("sum/bias",)
    assert report.missing == {"sum/kernel": (4, 1)}
    assert report.shape_mismatch == {"hidden/kernel": ((2, 4), (2, 8)), "hidden/bias": ((4,), (8,))}
    assert report.unused == {
        "hidden/kernel": "shape mismatch",
        "hidden/bias": "shape mismatch",
        "add/kernel": "unexpected",
    }
    expected = {**before, "sum/bias": saved(run.best / "weights.npz")["add/bias"]}
    assert same(values(network), expected)
    assert caplog.messages == [
        f"warm start: loaded 1 of 4 weights from {run.best / 'weights.npz'}",
        "not loaded (keep initial values): sum/kernel (missing in the file); hidden/kernel (shape (2, 4) in "
        "the network, (2, 8) in the file); hidden/bias (shape (4,) in the network, (8,) in the file)",
        "unexpected weights in the file: add/kernel",
    ]


# What is rejected; nothing is changed then.


@pytest.mark.parametrize(
    ("model", "settings", "says"),
    [
        (
            Named(names=["hidden_2", "add"], width=4),
            {},
            "--warmstart.model RUN: 3 of 4 weights cannot be loaded from RUN/best/weights.npz:\n"
            "hidden_2/kernel (2, 4) is missing (did you mean hidden/kernel (2, 8)?); hidden_2/bias (4,) is missing "
            "(did you mean hidden/bias (8,)?); add/kernel has shape (8, 1) in the file but (4, 1) in the network.\n"
            "If names differ, use --warmstart.rename FROM->TO; to load matching weights only, use "
            "--warmstart.exclude PATTERN or --warmstart.allow_partial true.",
        ),
        (
            Named(names=["a", "b"]),
            {"allow_partial": True},
            "--warmstart.model RUN: none of the 4 weights can be loaded from RUN/best/weights.npz:\n"
            "a/kernel (2, 8) is missing (did you mean hidden/kernel (2, 8)?); a/bias (8,) is missing (did you mean "
            "hidden/bias (8,)?); b/kernel (8, 1) is missing (did you mean add/kernel (8, 1)?); and 1 more.\n"
            "If names differ, use --warmstart.rename FROM->TO.",
        ),
        (
            Line(),
            {"rename": ["hiden/->add/"]},
            "--warmstart.rename hiden/->add/: matches no weight in RUN/best/weights.npz; available: "
            "hidden/kernel, hidden/bias, add/kernel, add/bias",
        ),
        (
            Line(),
            {"rename": ["hidden->add"]},
            "--warmstart.rename: renames both hidden/kernel and add/kernel to add/kernel",
        ),
        (
            Line(),
            {"include": ["hidden", "hiden"]},
            "--warmstart.include hiden: matches no weight of the network; available: hidden/kernel, "
            "hidden/bias, add/kernel, add/bias",
        ),
        (
            Line(),
            {"exclude": ["/"]},
            "--warmstart.exclude: excludes all weights of the network",
        ),
    ],
)
def test_mismatched_weights_are_reported_with_the_closest_name(
    run: OutputDir, model: Line, settings: dict[str, Any], says: str
) -> None:
    network = network_of(model)
    before = values(network)
    with pytest.raises(UsageError) as error:
        warm_start(network, WarmStart(model=run.path, **settings))
    assert str(error.value).replace(str(run.path), "RUN") == says
    assert same(values(network), before)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def broken_files(folder: Path, run: OutputDir) -> Iterator[tuple[Path, str]]:
    """Return files that cannot be read, with the reason."""
    content = (run.best / "weights.npz").read_bytes()
    (folder / "cut.npz").write_bytes(content[: len(content) // 2])
    yield folder / "cut.npz", "truncated or damaged file"
    middle = content.index(b"\x93NUMPY") + 150  # in the numbers of the first array
    (folder / "bit.npz").write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    yield folder / "bit.npz", "Bad CRC-32 for file 'hidden/kernel.npy'"
    np.savez(folder / "harm.npz", **{"hidden/kernel": np.array([Harmful(folder / "harm")], object)})
    yield folder / "harm.npz", "it contains Python objects instead of numbers"
    (folder / "model.keras").write_text("no archive")
    yield folder / "model.keras", "File is not a zip file"
    with zipfile.ZipFile(folder / "empty.keras", "w"):
        pass
    yield folder / "empty.keras", "the archive contains no model.weights.h5"
    (folder / "weights.h5").write_text("nothing")
    yield folder / "weights.h5", "Unable to synchronously open file"


def test_broken_files_are_reported_in_one_line_and_nothing_in_them_is_executed(run: OutputDir, tmp_path: Path) -> None:
    for file, why in broken_files(tmp_path, run):
        with pytest.raises(UsageError) as error:
            warm_start(network_of(Line()), WarmStart(model=file))
        cannot = "cannot be read as .npz" if file.suffix == ".npz" else f"cannot read {file}"
        assert str(error.value).startswith(f"--warmstart.model {file}: {cannot}: {why}")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.slow
def test_a_checkpoint_of_a_network_with_two_layers_of_one_name_keeps_them_apart(tmp_path: Path) -> None:
    trainer = {"epochs": 1, "jit_compile": False, "val_every_n": 0}
    result = train(small(tmp_path / "run", model=Nested(), trainer=trainer, evaluator=None))
    network = network_of(Nested())
    warm_start(network, WarmStart(model=tmp_path / "run" / "checkpoints" / "epoch_0001"))
    assert same(values(network), values(result.network))


def test_checkpoints_provide_weights_and_exports_their_averages(tmp_path: Path) -> None:
    train(small(tmp_path / "run", trainer={"epochs": 1, "calc_ema": 0.9, "val_every_n": 0}))
    loaded = {}
    for place in ("export", "checkpoints/epoch_0001"):
        loaded[place] = network_of(Line())
        report = warm_start(loaded[place], WarmStart(model=tmp_path / "run" / place))
        assert (len(report.loaded), report.unused) == (4, {})
    averages, plain = (values(network) for network in loaded.values())
    assert not any(np.array_equal(averages[path], plain[path]) for path in plain)
    arrays = saved(tmp_path / "run" / "checkpoints" / "epoch_0001" / "variables.npz")
    kept = {name.split("/")[-1]: array for name, array in arrays.items() if name.startswith("optimizer:")}
    for path, mean in averages.items():
        past = kept[f"{path.replace('/', '_')}_past_average"]
        np.testing.assert_allclose(mean, 0.9 * past + 0.1 * plain[path], rtol=1e-5, atol=1e-7)


def test_warm_start_loads_only_network_weights_of_a_checkpoint(tmp_path: Path) -> None:
    network = network_of(Line())
    names = [f"network:{path}" for number, path in enumerate(weight_paths(network))]
    arrays = {name: np.ones(weight.shape) for name, weight in zip(names, network.weights, strict=True)}
    averages = {
        f"optimizer:{path}_past_average": np.zeros(weight.shape)
        for number, (path, weight) in enumerate(weight_paths(network).items())
    }
    others = {"network:seed_generator/seed_generator_state": np.zeros(2), "random:python": np.zeros(3)}
    (tmp_path / "epoch_0007").mkdir()
    file = tmp_path / "epoch_0007" / "variables.npz"
    np.savez(file, **arrays, **averages, **others)  # type: ignore[arg-type]
    report = warm_start(network, WarmStart(model=file.parent))
    assert (len(report.loaded), report.unused) == (4, {})
    assert all(np.all(value == 1) for value in values(network).values())


# JSON.


def test_lists_of_numbers_in_json_are_weights_by_the_names_that_lead_to_them(tmp_path: Path) -> None:
    """As PyTorch's `state_dict` is written: a matrix called weight has the outputs in its rows."""
    network = network_of(Line())
    state = {"hidden.weight": [[1, 2]] * 8, "hidden.bias": [0.5] * 8, "add.weight": [[3.0] * 8], "add.bias": [4]}
    (tmp_path / "weights.json").write_text(json.dumps({"epoch": 3, "name": "a", "state": state}))
    rules = [r"^state/(\w+)\.->\1/", "weight$->kernel"]
    report = warm_start(network, WarmStart(model=tmp_path / "weights.json", rename=rules))
    assert len(report.loaded) == 4
    found = values(network)
    np.testing.assert_array_equal(found["hidden/kernel"], [[1] * 8, [2] * 8])
    np.testing.assert_array_equal(found["add/kernel"], [[3]] * 8)
    np.testing.assert_array_equal(found["add/bias"], [4])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [1, }', "weights.json, line 1"),
        ("[]", "weights.json: contains no named lists of numbers"),
        ('{"a": "b", "c": []}', "weights.json: contains no named lists of numbers"),
        ('{"hidden/kernel": [[1, 2], [3]]}', "weights.json: hidden/kernel: its lists differ in length"),
        ('{"hidden/kernel": [[1, 2], [3, null]]}', "weights.json: hidden/kernel/1/1: expected a number, got null$"),
        ('{"hidden/kernel": [[1, 2], [true, 4]]}', "weights.json: hidden/kernel/1/0: expected a number, got true$"),
        ('{"hidden/bias": [0.5, "NaN"]}', 'weights.json: hidden/bias/1: expected a number, got "NaN"$'),
        ('{"a": [1], "hidden/bias": null}', "weights.json: hidden/bias: expected a number, got null$"),
        ('{"hidden/bias": [1, {"a": [2]}]}', r'weights.json: hidden/bias/1: expected a number, got {"a": \[2\]}$'),
        ('{"a": [1], "hidden/bias": [1e300]}', "weights.json: hidden/bias/0: 1e\\+300 is too large for float32$"),
        (
            '{"hidden": {"kernel": [1], "fraction_bits": "8"}}',
            "weights.json: hidden/fraction_bits: expected an integer",
        ),
        (
            '{"hidden": {"bias": [1], "fraction_bits": 5000}}',
            "hidden/fraction_bits: expected an integer from -126 to 126",
        ),
        ("{}", "contains no named lists of numbers"),
        ('{"a": ["x"], "b": [[1], [1, 2]]}', "none of the 4 weights"),
    ],
)
def test_json_without_fitting_weights_is_rejected(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text(content)
    with pytest.raises(UsageError, match=message) as found:
        warm_start(network_of(Line()), WarmStart(model=tmp_path / "weights.json", allow_partial=True))
    assert str(found.value).startswith("--warmstart.model")


def test_settings_next_to_the_weights_in_json_do_not_matter_and_a_single_number_is_a_weight(tmp_path: Path) -> None:
    dense = [["Dense", 8, {"use_bias": True}], None, [[1], [1, 2]]]
    content = {"epoch": 3, "layers": dense, "hidden": {"bias": [1] * 8}, "scale": 0.5}
    (tmp_path / "weights.json").write_text(json.dumps(content))
    x = keras.Input((2,))
    network = keras.Model(x, Scaled(name="scale")(keras.layers.Dense(8, name="hidden")(x)))
    rules = ["^scale$->scale/factor"]
    report = warm_start(network, WarmStart(model=tmp_path / "weights.json", rename=rules, allow_partial=True))
    assert report.loaded == ("hidden/bias", "scale/factor")
    assert set(report.unused) == {"layers/2/0", "layers/2/1"}


class Scaled(keras.layers.Layer):
    """A layer whose weight is a single number."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(name="factor", shape=())

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


def test_text_in_npz_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{"hidden/kernel": np.ones((2, 8)), "hidden/bias": np.array(["x"] * 8)})
    with pytest.raises(UsageError, match=r"w.npz: hidden/bias: expected numbers, got an array of dtype <U1"):
        warm_start(network_of(Line()), WarmStart(model=tmp_path / "w.npz", allow_partial=True))
