"""Sources: tables in many files, image folders, list files."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small import Line

from tfaip_like import ArraySource, Data, Mode, Sample, Spec, UsageError
from tfaip_like._utils.temp_dirs import process_temp_dir
from tfaip_like.data import ImageFolder, TableSource, TrainLoaderSettings, find_files, read_image
from tfaip_like.data._loader.batching import collate
from tfaip_like.data._loader.loader_factory import open_training
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._loader.sample_validation import validate_first_sample
from tfaip_like.data._sample import to_sample
from tfaip_like.data._sources.file_lists import iter_list_file
from tfaip_like.data._sources.indexed import PackedStrings
from tfaip_like.list_files import (
    ListFileData,
    ListFileScenario,
    ListSource,
    ListTrainLoaderSettings,
    ListValLoaderSettings,
)


class Pictures(ListFileData):
    """Images as they are."""

    inputs = {"image": Spec((None, None), "uint8")}

    def sample(self, file: Path) -> Sample:
        return Sample({"image": read_image(file)}, meta={"file": str(file)})


class PictureScenario(ListFileScenario):
    """Never trained."""

    data: ListFileData = Pictures()
    model: Line = Line()


def image(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6), value, np.uint8)).save(path)
    return path


@given(st.lists(st.text()))
def test_texts_are_kept(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    kept = PackedStrings(texts)
    assert list(kept) == texts
    assert kept[-1:] == texts[-1:]


@pytest.mark.parametrize("kind", ["npz", "npz_compressed", "csv", "tsv", "parquet"])
def test_a_table_in_many_files_is_one_array(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    parts = [{name: random.integers(0, 99, 7 + i).astype("float64") for name in ("a", "b", "c")} for i in range(3)]
    for number, part in enumerate(parts):
        path = tmp_path / f"part-{number}.{kind.partition('_')[0]}"
        if kind.startswith("npz"):
            (np.savez_compressed if kind == "npz_compressed" else np.savez)(path, **part)  # type: ignore[arg-type]
        elif kind == "parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.table(part), path)
        else:
            separator = "," if kind == "csv" else "\t"
            rows = np.stack(list(part.values()), axis=1)
            np.savetxt(path, rows, delimiter=separator, header=separator.join(part), comments="")
    files = find_files([str(tmp_path / "part-*")], "--data.files")
    source = TableSource(files, {"x": ["a", "b"]}, {"y": "c"})
    assert len(source) == 7 + 8 + 9
    np.testing.assert_array_equal(source.inputs["x"][:, 1], np.concatenate([part["b"] for part in parts]))
    np.testing.assert_array_equal(source.targets["y"], np.concatenate([part["c"] for part in parts]))
    assert source.targets["y"].dtype == ("int64" if kind in ("csv", "tsv") else "float64")
    assert len(TableSource(find_files([str(tmp_path / "part-*")], "", at_most=2), {"x": "a"})) == 15


def test_the_temporary_copy_of_a_table_is_deleted_with_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(5))
    before = set(process_temp_dir().iterdir())
    source = TableSource([tmp_path / "a.npz"], {"x": "x"})
    assert set(process_temp_dir().iterdir()) > before
    del source
    gc.collect()
    assert set(process_temp_dir().iterdir()) == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "x,y\n1,2\n1,b\n", "a.csv, line 3, column 'y': 'b' is not a number"),
        ("a.csv", "x\n1\n", "a.csv: has no column 'y'; available: x"),
        ("a.npz", "nonsense", "a.npz: cannot be read as .npz: "),
        ("a.txt", "", "a.txt: not a supported table file (.npz, .npy, .csv, .tsv, .parquet)"),
    ],
)
def test_a_file_that_is_not_a_table_is_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as raised:
        TableSource([tmp_path / name], {"x": "x"}, {"y": "y"})
    assert message in str(raised.value)


def test_files_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)))
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 4)))
    with pytest.raises(UsageError, match=r"b\.npz, column 'x': has rows of shape \(4,\)"):
        TableSource([tmp_path / "a.npz", tmp_path / "b.npz"], {"x": "x"})


MASKED = np.ma.MaskedArray([1, 2, 3], [False, True, False])


def test_masked_floats_are_nan_and_other_masked_values_are_rejected() -> None:
    source = ArraySource({"x": MASKED.astype("float32")}, {"y": np.ma.MaskedArray([1, 2, 3])})
    np.testing.assert_array_equal(source.inputs["x"], np.array([1, np.nan, 3], "float32"))
    assert type(source.inputs["x"]) is np.ndarray
    assert source.targets["y"].tolist() == [1, 2, 3]
    with pytest.raises(UsageError, match=r"array 'x' has masked values, which int64 cannot represent; fill them"):
        ArraySource({"x": MASKED})


@pytest.mark.parametrize(
    ("value", "spec", "message"),
    [
        (MASKED, Spec((3,)), "input 'x' has masked values, which int64 cannot represent"),
        (
            MASKED.astype(float),
            Spec((3,), "int32"),
            r"input 'x' has missing values \(NaN\), which the int32 of its Spec",
        ),
        (
            np.array(["a"]),
            Spec((1,)),
            "input 'x' has dtype <U1, which .*; encode texts",
        ),
        (np.array([None]), Spec((1,)), "input 'x' has dtype object, which .* Python objects"),
        (np.array(["2024-01-01"], "M8[D]"), Spec((1,)), r"input 'x' has dtype datetime64\[D\], which .* dates"),
        (np.array([b"a"]), Spec((1,)), r"input 'x' has dtype \|S1, which .* bytes"),
        ([[1], [2, 3]], Spec((2, 2)), r"input 'x' is not an array \(setting an array element"),
    ],
)
def test_a_sample_that_is_not_an_array_of_numbers_is_rejected(value: Any, spec: Spec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        collate([Sample({"x": value})], {"x": spec}, {})


def test_masked_floats_of_a_sample_are_nan() -> None:
    batch = collate([Sample({"x": MASKED.astype(float)})], {"x": Spec((3,))}, {})
    np.testing.assert_array_equal(batch.inputs["x"], [[1, np.nan, 3]])


@pytest.mark.parametrize(
    ("cell", "dtype", "message"),
    [
        ("", "int32", "has missing values (NaN), which the int32 of its Spec cannot represent"),
        ("1e300", "float32", "has a value that is too large for the float32 of its Spec"),
    ],
)
def test_the_line_of_a_value_that_its_spec_cannot_hold_is_named(
    cell: str, dtype: str, message: str, tmp_path: Path
) -> None:
    class Rows(Data):
        """Rows of a table."""

        inputs = {"x": Spec((), dtype)}

        def source(self, mode: Mode) -> ArraySource:
            return TableSource([tmp_path / "a.csv"], {"x": "x"})[1:]

    (tmp_path / "a.csv").write_text(f"x,y\n1,2\n3,4\n{cell},5\n")
    samples = SampleReader(Rows(), Rows().source(Mode.TRAIN), Mode.TRAIN, 0)
    with pytest.raises(UsageError) as raised:
        validate_first_sample(samples, 0)
    assert str(raised.value) == f"training sample 1 of Rows ({tmp_path}/a.csv, line 4): 'x' {message}"


def test_a_folder_of_images_has_a_class_for_each_folder(tmp_path: Path) -> None:
    for number, name in enumerate(("cat/1.png", "cat/deep/2.png", "dog/3.png")):
        image(tmp_path / name, 10 * number)
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    source = ImageFolder(tmp_path, color="L")
    assert source.classes == ["cat", "dog"]
    assert [int(sample.targets["label"]) for sample in source] == [0, 0, 1]
    assert source[2].inputs["image"].shape == (4, 6)
    assert source.describe(2).endswith("dog/3.png")


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image at all")
    with pytest.raises(UsageError, match=r"broken\.png: cannot be read as an image"):
        read_image(tmp_path / "broken.png")
    with pytest.raises(UsageError, match=r"missing\.png: no such image"):
        read_image(tmp_path / "missing.png")


def test_a_list_file_names_samples_relative_to_itself(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png"):
        image(tmp_path / "lists" / name)
    absolute = image(tmp_path / "c.png")
    (tmp_path / "lists" / "train.lst").write_text(f"# some lines\na.png\n\n  sub/b.png  \n{absolute}\n")
    source = ListSource(Pictures(), str(tmp_path / "lists" / "train.lst"), "--train.lists")
    assert [Path(sample.meta["file"]).name for sample in source] == ["a.png", "b.png", "c.png"]
    assert source.describe(1) == f"{tmp_path}/lists/sub/b.png, line 4 of {tmp_path}/lists/train.lst"


def test_lists_may_be_images_patterns_and_folders(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "deep/c.png", "d.txt"):
        image(tmp_path / name) if name.endswith("png") else (tmp_path / name).write_text("")
    assert len(ListSource(Pictures(), str(tmp_path / "*.png"), "--train.lists")) == 2
    assert len(ListSource(Pictures(), str(tmp_path), "--train.lists")) == 3
    assert len(ListSource(Pictures(), str(tmp_path / "a.png"), "--train.lists")) == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("missing.lst", r"--train\.lists .*missing\.lst: no such file"),
        ("*.nothing", r"--train\.lists .*: no file matches"),
        ("empty.lst", r"--train\.lists .*empty\.lst: no file with suffix \.png, .* found"),
    ],
)
def test_a_list_that_names_nothing_is_an_error(entry: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty.lst").write_text("\n\n# nothing\n")
    with pytest.raises(UsageError, match=message):
        ListSource(Pictures(), str(tmp_path / entry), "--train.lists")


def test_a_list_that_is_not_a_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.lst").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"a\.lst, line 1: not"):
        list(iter_list_file(tmp_path / "a.lst"))


def test_each_list_is_a_separate_source_in_load_and_validate(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / name / "1.png")
    scenario = PictureScenario(
        train=ListTrainLoaderSettings(lists=[str(tmp_path)]),
        val=ListValLoaderSettings(lists=[str(tmp_path / "a"), str(tmp_path / "b")]),
    )
    assert list(scenario.lav_sources()) == ["a", "b"]
    train, val = scenario.source(Mode.TRAIN), scenario.source(Mode.EVALUATE)
    assert len(train) == len(val) == 2  # type: ignore[arg-type]
    assert PictureScenario(train=ListTrainLoaderSettings(lists=[str(tmp_path)])).source(Mode.EVALUATE) is None


class Pairs(Data):
    """(x, y), as generators for Keras yield them."""

    named: bool = False
    """Whether x is a dictionary."""
    endless: bool = True
    """Whether they can only be iterated."""

    inputs = {"x": Spec((2,))}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> Any:
        def pairs() -> Iterator[Any]:
            for x in np.random.default_rng(mode is Mode.TRAIN).random((40, 2), dtype="float32"):
                yield ({"x": x} if self.named else x), x.sum()

        return Generated(pairs) if self.endless else list(pairs())


class Generated:
    """Calls a generator for each pass."""

    def __init__(self, make: Callable[[], Iterator[Any]]):
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        return self.make()


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("endless", [False, True])
def test_pairs_of_x_and_y_are_samples(named: bool, endless: bool) -> None:
    data = Pairs(named=named, endless=endless)
    settings = TrainLoaderSettings(batch_size=8, num_processes=0, shuffle=False)
    with closing(open_training(data, data.source(Mode.TRAIN), settings, 32, seed=1)) as batches:
        batch = next(batches.iter_pass())
    assert batch.inputs["x"].shape == (8, 2)
    np.testing.assert_allclose(batch.targets["y"], batch.inputs["x"].sum(axis=1))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ((1,), None),
        (({"x": 1}, {"y": 2}), None),
        ((1, 2, 3), "is a tuple of length 3 with a weight: declare the target 'sample_weight'"),
        ((1, 2, 3, 4), "is a tuple of length 4, expected"),
        ((), "is a tuple of length 0, expected"),
    ],
)
def test_tuples_are_samples_if_they_have_one_or_two_parts(given: tuple[Any, ...], problem: str | None) -> None:
    if problem is None:
        assert to_sample(given, ["x"], ["y"]).inputs == {"x": 1}
    else:
        with pytest.raises(ValueError, match=problem):
            to_sample(given, ["x"], ["y"])


@pytest.mark.parametrize(("inputs", "what"), [([], "no inputs"), (["a", "b"], "the inputs a, b")])
def test_an_array_for_several_or_no_names_is_rejected(inputs: list[str], what: str) -> None:
    with pytest.raises(ValueError, match=f"is a tuple with an int for {what}, expected"):
        to_sample((1, 2), inputs, ["y"])
