"""Datasets of other libraries as sources, unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import slow
from small import Points, small

from tfaip_like import Mode, Sample, Spec, UsageError, predict, train
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.loader_factory import open_training
from tfaip_like.data._sources.datasets.items import ItemReader, convert_sequence
from tfaip_like.data._sources.opening import open_source
from tfaip_like.settings import Resume

X = np.random.default_rng(1).random((64, 2), dtype="float32")
Y = X.sum(axis=1)


def named() -> dict[str, Any]:
    return {"x": X, "y": Y}


def generator() -> Iterator[Any]:
    yield from zip(X, Y, strict=True)


def tf_data(batched: bool, as_tuple: bool) -> Any:
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices((X, Y) if as_tuple else named())
    return dataset.batch(10) if batched else dataset


def py_dataset() -> Any:
    keras = pytest.importorskip("keras")

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 7

        def __getitem__(self, index: int) -> Any:
            return X[10 * index : 10 * index + 10], Y[10 * index : 10 * index + 10]

    return Batches()


def array_file(library: str, folder: Path) -> Any:
    if library == "h5py":
        h5py = pytest.importorskip("h5py")
        if not (folder / "data.h5").exists():
            with h5py.File(folder / "data.h5", "w") as file:
                file["x"], file["y"] = X, Y
        stored = h5py.File(folder / "data.h5")
        return {"x": stored["x"], "y": stored["y"]}
    if library == "memmap":
        np.save(folder / "x.npy", X)
        return {"x": np.load(folder / "x.npy", mmap_mode="r"), "y": Y}
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(folder / "data.zarr"), mode="w")
    for name, array in named().items():
        group.create_array(name, data=array)
    return {name: group[name] for name in named()}


def frame(library: str) -> Any:
    module = pytest.importorskip(library)
    return module.DataFrame({"x": [list(map(float, row)) for row in X], "y": Y, "note": ["a"] * len(X)})


def hugging_face(iterable: bool) -> Any:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"x": X.tolist(), "y": Y.tolist(), "text": ["a"] * len(X)})
    return dataset.to_iterable_dataset() if iterable else dataset


def grain(kind: str) -> Any:
    grain = pytest.importorskip("grain")
    dataset = grain.MapDataset.source(list(zip(X, Y, strict=True)))
    return dataset if kind == "map" else dataset.to_iter_dataset()


def torch(kind: str) -> Any:
    data = pytest.importorskip("torch.utils.data")
    import torch

    dataset = data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    if kind == "dataset":
        return dataset
    if kind == "loader":
        return data.DataLoader(dataset, batch_size=10, shuffle=True)
    if kind == "collate":

        def collate(items: Any) -> Any:
            return {name: torch.stack(values) for name, values in zip("xy", zip(*items, strict=True), strict=True)}

        return data.DataLoader(dataset, batch_size=10, collate_fn=collate)
    if kind == "of batches":
        batches = [(torch.tensor(X[at : at + 10]), torch.tensor(Y[at : at + 10])) for at in range(0, len(X), 10)]
        return data.DataLoader(batches, batch_size=None)
    if kind == "sampler":
        return data.DataLoader(dataset, batch_size=10, sampler=list(range(len(X))))

    class Stream(data.IterableDataset):
        def __iter__(self) -> Iterator[Any]:
            return iter(dataset)

    return Stream() if kind == "iterable" else data.DataLoader(Stream(), batch_size=10)


KINDS: dict[str, Callable[[Path], Any]] = {
    "arrays by name": lambda folder: named(),
    "arrays by position": lambda folder: (X, Y),
    "named inputs, array of targets": lambda folder: ({"x": X}, Y),
    "list of mappings": lambda folder: [{"x": x, "y": y} for x, y in zip(X, Y, strict=True)],
    "list of tuples": lambda folder: list(zip(X, Y, strict=True)),
    "generator": lambda folder: generator(),
    "tf.data": lambda folder: tf_data(batched=False, as_tuple=True),
    "tf.data of mappings": lambda folder: tf_data(batched=False, as_tuple=False),
    "tf.data of batches": lambda folder: tf_data(batched=True, as_tuple=True),
    "PyDataset": lambda folder: py_dataset(),
    "HDF5": lambda folder: array_file("h5py", folder),
    "Zarr": lambda folder: array_file("zarr", folder),
    "memory map": lambda folder: array_file("memmap", folder),
    "pandas": lambda folder: frame("pandas"),
    "Polars": lambda folder: frame("polars"),
    "Hugging Face": lambda folder: hugging_face(iterable=False),
    "Hugging Face, iterable": lambda folder: hugging_face(iterable=True),
    "Grain": lambda folder: grain("map"),
    "Grain, iterable": lambda folder: grain("iter"),
    **{
        f"PyTorch, {kind}": (lambda folder, kind=kind: torch(kind))
        for kind in ("dataset", "loader", "collate", "of batches", "sampler", "iterable", "loader of iterable")
    },
}


def read(source: Any) -> tuple[np.ndarray, np.ndarray]:
    samples = source if not hasattr(source, "__len__") else [source[index] for index in range(len(source))]
    pairs = [(np.asarray(sample.inputs["x"]), np.asarray(sample.targets["y"])) for sample in samples]
    return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])


class Given(Points):
    """Data that returns what a test gives it."""

    dataset: str = ""
    """Kind of dataset."""

    folder: Path = Path()
    """Directory for files."""

    def source(self, mode: Mode) -> Any:
        return KINDS[self.dataset](self.folder) if mode is Mode.TRAIN else None


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_dataset_has_the_same_samples_in_each_pass(kind: str, tmp_path: Path) -> None:
    data = Given(dataset=kind, folder=tmp_path)
    source = open_source(data.source(Mode.TRAIN), data, Mode.TRAIN, reopen=lambda: data.source(Mode.TRAIN))
    for _ in range(2):
        x, y = read(source)
        assert np.allclose(x, X)
        assert np.allclose(y, Y)


def test_an_epoch_of_a_tf_data_dataset_of_known_length_is_one_pass() -> None:
    data = Points()
    loader = open_training(
        data, tf_data(batched=True, as_tuple=True), TrainLoaderSettings(batch_size=8, num_processes=0), None, seed=1
    )
    assert (loader.samples_per_epoch, len(loader)) == (64, 64)
    loader.close()


def test_a_tf_data_dataset_without_an_end_needs_samples_per_epoch() -> None:
    endless = tf_data(batched=True, as_tuple=True).repeat()
    with pytest.raises(UsageError, match="samples_per_epoch is required: the source of Points has no __len__"):
        open_training(Points(), endless, TrainLoaderSettings(batch_size=8, num_processes=0), None, seed=1)


BY_DEFAULT = [("tf.data of batches", 2)]
WITH_WORKERS = ("HDF5", "PyTorch, dataset", "Hugging Face", "list of tuples", "tf.data of batches")
CASES = [*((kind, 0) for kind in KINDS), *((kind, 2) for kind in WITH_WORKERS)]


@pytest.mark.parametrize(("kind", "workers"), [case if case in BY_DEFAULT else slow(*case) for case in CASES])
def test_every_kind_of_dataset_is_trained_on_and_resumed(kind: str, workers: int, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    data = Given(dataset=kind, folder=tmp_path / "files")
    settings: dict[str, Any] = {"data": data, "evaluator": None, "train": {"num_processes": workers, "shuffle": False}}
    trainer = {"epochs": 2, "samples_per_epoch": 64}
    whole = train(small(tmp_path / "whole", trainer=trainer, **settings)).history
    train(small(tmp_path / "parts", trainer={**trainer, "epochs": 1}, **settings))
    parts = train(small(tmp_path / "parts", trainer=trainer, **settings), Resume()).history
    assert [row["loss"] for row in parts] == [row["loss"] for row in whole]


class Names(Points):
    """Two inputs and a target."""

    inputs = {"a": Spec(()), "b": Spec(())}
    targets = {"y": Spec(())}


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({"a": 1, "c": 2}, r"no input 'b' in an item with a, c; expected a, b, y"),
        ((1, 2), "an item has an int for the inputs a, b; expected a mapping, or a tuple in this order"),
        (((1, 2, 3), 4), "an item has 3 values for the inputs a, b"),
        (((1, 2), 4, 1.0), "an item has a weight: declare the target 'sample_weight'"),
        ((1, 2, 3, 4), "a tuple of length 4"),
    ],
)
def test_an_item_that_does_not_fit_names_what_there_is_and_what_is_expected(item: Any, problem: str) -> None:
    source = open_source([item], Names(), Mode.TRAIN)
    assert source is not None
    with pytest.raises(UsageError, match=problem):
        source[0]  # type: ignore[index]


def test_tuples_of_several_inputs_have_their_order() -> None:
    source = open_source([((1, 2), 3)], Names(), Mode.TRAIN)
    assert source[0] == Sample({"a": 1, "b": 2}, {"y": 3})  # type: ignore[index]


def test_a_generator_that_is_not_made_again_is_an_error() -> None:
    with pytest.raises(UsageError, match="one-shot iterator"):
        open_source(generator(), Points(), Mode.TRAIN)


def test_a_frame_without_a_column_is_an_error() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(UsageError, match="no column for 'x'; available: a"):
        open_source(pandas.DataFrame({"a": [1]}), Points(), Mode.TRAIN)


def test_a_frame_without_a_column_of_a_target_is_an_error_unless_it_is_predicted() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [[1.0, 2.0]]})
    with pytest.raises(UsageError, match="no column for 'y'; available: x"):
        open_source(frame, Points(), Mode.TRAIN)
    assert len(open_source(frame, Points(), Mode.PREDICT)) == 1  # type: ignore[arg-type]


class Batches:
    """Random-access batches that count how often they are read."""

    def __init__(self, count: int):
        self.count = count
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        self.reads.append(index)
        numbers = 4 * index + np.arange(4)
        return {
            "x": np.stack([numbers, numbers], 1).astype("float32"),
            "y": numbers,
            "name": [f"n{n}" for n in numbers],
        }


def test_batches_are_shuffled_and_each_is_read_once_in_a_pass() -> None:
    batches = Batches(40)
    source = convert_sequence(batches, ItemReader(Points().inputs, Points().targets, "batches"))
    settings = TrainLoaderSettings(batch_size=8, num_processes=0)
    loader = open_training(Points(), source, settings, None, seed=1)
    batches.reads.clear()
    order = [int(y) for number in range(20) for y in loader.batch(number).targets["y"]]
    loader.close()
    assert sorted(order) == list(range(160))
    assert order != sorted(order)
    assert len(batches.reads) <= 40


def test_samples_of_a_batch_keep_their_meta() -> None:
    source = convert_sequence(Batches(2), ItemReader(Points().inputs, Points().targets, "batches"))
    assert [source[index].meta["name"] for index in (0, 5)] == ["n0", "n5"]


@pytest.mark.parametrize("format_", [None, "numpy"])
def test_rows_of_a_hugging_face_dataset_are_read_together(format_: str | None) -> None:
    dataset = hugging_face(iterable=False).with_format(format_)
    source = open_source(dataset, Points(), Mode.TRAIN)
    inputs, targets = source.rows(np.array([3, 1]))  # type: ignore[union-attr]
    assert np.array_equal(np.asarray(inputs["x"], "float32"), X[[3, 1]])
    assert np.array_equal(np.asarray(targets["y"], "float32"), Y[[3, 1]])


class Predicted(Points):
    """Points to predict, as mappings."""

    def source(self, mode: Mode) -> Any:
        return [{"x": x} for x in X[:3]] if mode is Mode.PREDICT else super().source(mode)


def test_a_dataset_is_predicted(tmp_path: Path) -> None:
    train(small(tmp_path / "run", data=Predicted(), evaluator=None, trainer={"epochs": 1}))
    assert len(predict(tmp_path / "run")) == 3


class Batched(Given):
    """Data whose source is a data set of batches."""

    def source(self, mode: Mode) -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((X, Y)).batch(24)


def test_the_log_says_if_batches_of_a_dataset_have_another_size(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for size in (8, 24):
        caplog.clear()
        train(small(data=Batched(), trainer={"epochs": 1}, train={"batch_size": size}))
        message = "The dataset has batches of 24 samples; the training uses those of --train.batch_size 8"
        assert (message in caplog.messages) == (size == 8)


class ListOfArrays(Given):
    """Data whose source is a list instead of a tuple."""

    def source(self, mode: Mode) -> Any:
        return [X, Y]


def test_a_list_of_arrays_is_an_error() -> None:
    with pytest.raises(CodeError, match=r"a list of arrays, .* return a tuple of arrays: \(x, y\)"):
        train(small(data=ListOfArrays()))
