"""Columns of every Arrow type, in parquet files and alone: the values that were written, or an error with the name."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfaip_like import UsageError
from tfaip_like.data import TableFormat, TableSource, find_categories
from tfaip_like.data._sources.tables.arrow import arrow_to_cells

pa = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")
pq = pytest.importorskip("pyarrow.parquet")
NAN = math.nan
D = decimal.Decimal
DAY = datetime.date(2024, 2, 29)
MOMENT = datetime.datetime(2024, 2, 29, 12, 30, 1)
BERLIN = pa.timestamp("us", "Europe/Berlin")

# Type: some values, and what they are for NumPy; a dtype or a kind of dtype.
VALUES: dict[str, tuple[Any, list[Any], list[Any], str]] = {
    "bool": (pa.bool_(), [True, False, True], [True, False, True], "bool"),
    **{
        str(kind): (kind, [1, 0, 100], [1, 0, 100], str(kind))
        for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    },
    "largest uint64": (pa.uint64(), [2**64 - 1, 0, 1], [2**64 - 1, 0, 1], "uint64"),
    "largest int64": (pa.int64(), [2**63 - 1, -(2**63), 1], [2**63 - 1, -(2**63), 1], "int64"),
    "half": (pa.float16(), [np.float16(1.5), np.float16(-2), np.float16(0)], [1.5, -2, 0], "float16"),
    "float": (pa.float32(), [1.5, -math.inf, 0], [1.5, -math.inf, 0], "float32"),
    "double": (pa.float64(), [0.1, math.nan, 1e300], [0.1, math.nan, 1e300], "float64"),
    "decimal32": (pa.decimal32(5, 2), [D("1.10"), D("-999.99"), D("0")], [1.1, -999.99, 0], "float64"),
    "decimal64": (pa.decimal64(12, 3), [D("1.100"), D("2.500"), D("0")], [1.1, 2.5, 0], "float64"),
    "decimal128": (pa.decimal128(20, 2), [D("1234567890.67"), D("2"), D("0")], [1234567890.67, 2, 0], "float64"),
    "decimal256": (pa.decimal256(40, 20), [D("0.1"), D("2"), D("0")], [0.1, 2, 0], "float64"),
    "whole decimal": (pa.decimal128(19, 0), [D(2**53 + 1), D(1), D(0)], [2**53 + 1, 1, 0], "int64"),
    "date32": (pa.date32(), [DAY, DAY, DAY], [np.datetime64(DAY)] * 3, "datetime64[D]"),
    "date64": (pa.date64(), [DAY, DAY, DAY], [np.datetime64(DAY, "ms")] * 3, "datetime64[ms]"),
    "timestamp": (pa.timestamp("ns"), [MOMENT] * 3, [np.datetime64(MOMENT, "ns")] * 3, "datetime64[ns]"),
    "timestamp with a zone": (BERLIN, [MOMENT] * 3, [np.datetime64(MOMENT, "us")] * 3, "datetime64[us]"),
    "time32": (pa.time32("ms"), [datetime.time(1, 0, 1)] * 3, [np.timedelta64(3601000, "ms")] * 3, "timedelta64[ms]"),
    "time64": (pa.time64("us"), [datetime.time(0, 0, 1)] * 3, [np.timedelta64(10**6, "us")] * 3, "timedelta64[us]"),
    "duration": (pa.duration("s"), [5, 6, 7], [np.timedelta64(n, "s") for n in (5, 6, 7)], "timedelta64[s]"),
    "string": (pa.string(), ["a", "Köln \U0001f600", ""], ["a", "Köln \U0001f600", ""], "O"),
    "large_string": (pa.large_string(), ["a", "b" * 100, ""], ["a", "b" * 100, ""], "O"),
    "string_view": (pa.string_view(), ["a", "b" * 100, ""], ["a", "b" * 100, ""], "O"),
    "json": (pa.json_(), ["{}", "[1]", "2"], ["{}", "[1]", "2"], "O"),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["b", "a", "b"], ["b", "a", "b"], "O"),
    "dictionary of numbers": (pa.dictionary(pa.int32(), pa.int64()), [7, 5, 7], [7, 5, 7], "int64"),
    **{
        str(kind): (kind, [[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]], "int32")
        for kind in (
            *(pa.list_(pa.int32()), pa.large_list(pa.int32()), pa.list_(pa.int32(), 2)),
            *(pa.list_view(pa.int32()), pa.large_list_view(pa.int32())),
        )
    },
    "lists of lists": (pa.list_(pa.list_(pa.float32())), [[[1], [2]]] * 3, [[[1], [2]]] * 3, "float32"),
    "lists of texts": (pa.list_(pa.utf8()), [["a", "b"], ["d", ""], ["", ""]], [["a", "b"], ["d", ""], ["", ""]], "O"),
    "bool8": (pa.bool8(), [1, 0, 1], [True, False, True], "bool"),
}  # fmt: skip

REFUSED: dict[str, tuple[Any, list[Any], str]] = {
    "binary": (pa.binary(), [b"a", b"b\0", b""], "binary"),
    "large_binary": (pa.large_binary(), [b"a", b"b", b""], "large_binary"),
    "fixed_size_binary": (pa.binary(2), [b"ab", b"cd", b"ef"], "fixed_size_binary"),
    "binary_view": (pa.binary_view(), [b"a", b"b", b""], "binary_view"),
    "struct": (pa.struct({"a": pa.int32()}), [{"a": 1}] * 3, "store its fields as columns"),
    "map": (pa.map_(pa.string(), pa.int32()), [[("a", 1)]] * 3, "map<string"),
    "uuid": (pa.uuid(), [b"0123456789abcdef"] * 3, "extension type arrow.uuid"),
    "interval": (pa.month_day_nano_interval(), [(1, 2, 3)] * 3, "month_day_nano_interval"),
    "lists of different lengths": (pa.list_(pa.int32()), [[1], [2, 3], []], "vectors of different lengths (0, 1, 2)"),
    "a whole decimal that is too large": (pa.decimal128(30, 0), [D(10**25), D(1), D(0)], "contains 1" + 25 * "0"),
    "texts that end with NUL": (pa.string(), ["a\0", "b", ""], "NUL"),
}


def equal(found: Any, expected: Any) -> bool:
    """Return whether arrays are equal, NaN and NaT included."""
    found, expected = np.asarray(found), np.asarray(expected)
    nan = found.dtype.kind in "fcMm"
    return found.shape == expected.shape and bool(np.array_equal(found, expected, equal_nan=nan))


@pytest.mark.parametrize("name", VALUES)
def test_an_array_of_every_type_has_its_values(name: str) -> None:
    kind, values, expected, dtype = VALUES[name]
    array = pa.array(values, kind)
    found = arrow_to_cells(array)
    assert equal(found.values, expected)
    assert found.missing is None or not found.missing.any()
    assert dtype in (found.values.dtype.kind, str(found.values.dtype))
    assert equal(arrow_to_cells(array.slice(1, 1)).values, expected[1:2])
    assert len(arrow_to_cells(array.slice(0, 0)).values) == 0


@pytest.mark.parametrize("name", VALUES)
def test_nulls_are_missing_and_nothing_else_moves(name: str) -> None:
    kind, values, expected, _ = VALUES[name]
    array = pa.array([None, values[0], None, values[1], values[2]], kind)
    for part, rows in ((array, [1, 3, 4]), (array.slice(1, 3), [0, 2])):
        found = arrow_to_cells(part)
        assert found.missing is not None
        missing = found.missing.reshape(len(part), -1)
        assert (
            missing.all(axis=1).tolist()
            == missing.any(axis=1).tolist()
            == [row not in rows for row in range(len(part))]
        )
        assert equal(found.values[rows], expected[: len(rows)])
        if found.values.dtype.kind == "f":
            assert np.isnan(found.values[missing.any(axis=1)]).all()


@pytest.mark.parametrize("name", VALUES)
def test_a_parquet_column_of_every_type_is_read_from_two_files(name: str, tmp_path: Path) -> None:
    kind, values, expected, _ = VALUES[name]
    array = pa.array(values, kind)
    try:
        pq.write_table(pa.table({"it": array, "other": array}), tmp_path / "a.parquet", row_group_size=2)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        pytest.skip("parquet has no such type")
    pq.write_table(pa.table({"it": array.slice(1)}), tmp_path / "b.parquet")
    source = TableSource([tmp_path / "a.parquet", tmp_path / "b.parquet"], {"x": "it"})
    assert equal(source.inputs["x"], [*expected, *expected[1:]])


@pytest.mark.parametrize("name", REFUSED)
def test_a_type_without_an_equivalent_is_rejected_by_the_name_of_the_column(name: str, tmp_path: Path) -> None:
    kind, values, message = REFUSED[name]
    array = pa.array(values, kind)
    with pytest.raises(UsageError) as raised:
        arrow_to_cells(array)
    assert message in str(raised.value)
    try:
        pq.write_table(pa.table({"it": array, "x": [1, 2, 3]}), tmp_path / "a.parquet")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return
    with pytest.raises(UsageError, match=r"a\.parquet, column 'it': ") as raised:
        TableSource([tmp_path / "a.parquet"], {"x": "it"})
    assert message in str(raised.value)
    assert TableSource([tmp_path / "a.parquet"], {"x": "x"}).inputs["x"].tolist() == [1, 2, 3]


def test_arrow_types_without_a_file_format_are_read() -> None:
    encoded = pc.run_end_encode(pa.array([1, 1, None, 2]))
    assert equal(arrow_to_cells(encoded).values[[0, 1, 3]], [1, 1, 2])
    assert equal(arrow_to_cells(encoded.slice(1, 1)).values, [1])
    assert arrow_to_cells(pa.nulls(2)).missing_mask().tolist() == [True, True]
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    with pytest.raises(UsageError, match="sparse_union"):
        arrow_to_cells(union)


@pytest.mark.parametrize("permutation", [None, [1, 0]])
def test_tensors_have_their_shape(permutation: list[int] | None, tmp_path: Path) -> None:
    kind = pa.fixed_shape_tensor(pa.float32(), [2, 3], permutation=permutation)
    storage = pa.array([list(map(float, range(n, n + 6))) for n in range(3)], pa.list_(pa.float32(), 6))
    array = pa.ExtensionArray.from_storage(kind, storage)
    expected = array.to_numpy_ndarray()
    assert equal(arrow_to_cells(array).values, expected)
    assert equal(arrow_to_cells(array.slice(1)).values, expected[1:])
    pq.write_table(pa.table({"it": array}), tmp_path / "a.parquet")
    assert equal(TableSource([tmp_path / "a.parquet"], {"x": "it"}).inputs["x"], expected)


def test_a_missing_value_within_a_vector_is_nan_or_the_default(tmp_path: Path) -> None:
    pq.write_table(pa.table({"it": [[1, None], None, [5, 6]]}), tmp_path / "a.parquet")
    found = TableSource([tmp_path / "a.parquet"], {"x": "it"}).inputs["x"]
    assert equal(found, [[1, NAN], [NAN, NAN], [5, 6]])
    table_format = TableFormat(missing={"it": 0})
    found = TableSource([tmp_path / "a.parquet"], {"x": "it"}, table_format=table_format).inputs["x"]
    assert equal(found, [[1, 0], [0, 0], [5, 6]])
    assert found.dtype == "int64"


def test_vectors_without_numbers_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"it": pa.array([[], []], pa.list_(pa.int64()))}), tmp_path / "a.parquet")
    assert TableSource([tmp_path / "a.parquet"], {"x": "it"}).inputs["x"].shape == (2, 0)


def in_files(tmp_path: Path, *columns: Any, reverse: bool = False) -> list[Path]:
    files = [tmp_path / f"{number}.parquet" for number in range(len(columns))]
    for file, column in zip(files, columns, strict=True):
        pq.write_table(pa.table({"it": column}), file)
    return files[::-1] if reverse else files


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("one", "two", "dtype"),
    [
        (pa.array([1, 2]), pa.array([3, None]), "float64"),
        (pa.array([1, 2], pa.float32()), pa.array([0.1, 4]), "float64"),
        (pa.array([1, 2], pa.int8()), pa.array([2**40, 4]), "int64"),
        (pa.array([1, 2], pa.uint64()), pa.array([-3, 4]), "int64"),
        (pa.array([1, 2]), pa.nulls(2), "float64"),
        (pa.array([True, False]), pa.array([True, None]), "float64"),
        (pa.array(["a", "b"]), pa.array(["c" * 9, "d"]).dictionary_encode(), "<U16"),
        (pa.array([1, 2]), pa.array([], pa.string()), "int64"),
    ],
)
def test_files_of_one_table_may_differ_in_their_types(
    one: Any, two: Any, dtype: str, reverse: bool, tmp_path: Path
) -> None:
    files = in_files(tmp_path, one, two, reverse=reverse)
    found = TableSource(files, {"x": "it"}).inputs["x"]
    values = [*two.to_pylist(), *one.to_pylist()] if reverse else [*one.to_pylist(), *two.to_pylist()]
    assert equal(found, [NAN if value is None else value for value in values])
    assert str(found.dtype) == dtype


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        (
            pa.array([1, 2**53 + 1]),
            pa.array([0.5]),
            r"0\.parquet, row 2, column 'it': is 9007199254740993, an integer that",
        ),
        (
            pa.array([1, 2**53 + 1]),
            pa.array([None], pa.int64()),
            r"0\.parquet, row 2, column 'it': is 9007199254740993",
        ),
        (pa.array([1, 2**63], pa.uint64()), pa.array([-1]), r"0\.parquet, row 2, column 'it': is 9223372036854775808,"),
        (
            pa.array([1]),
            pa.array(["a"]),
            r"parquet, column 'it': contains (texts, but int64|int64, but texts) in previous rows",
        ),
        (
            pa.array([[1, 2]]),
            pa.array([[1]]),
            r"parquet, column 'it': has rows of shape .*, but the previous rows have",
        ),
        (pa.array(["a", None]), pa.array(["b"]), r"0\.parquet, row 2, column 'it': is missing; set a value"),
    ],
)
def test_files_that_do_not_fit_together_are_rejected(
    one: Any, two: Any, message: str, reverse: bool, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        TableSource(in_files(tmp_path, one, two, reverse=reverse), {"x": "it"})


def test_categories_have_one_number_in_all_files(tmp_path: Path) -> None:
    files = in_files(tmp_path, *(pa.array(texts).dictionary_encode() for texts in (["b", "a"], ["a", "c", "b"])))
    table_format = TableFormat(categories={"it": ["a", "b", "c"]})
    assert TableSource(files, {"x": "it"}, table_format=table_format).inputs["x"].tolist() == [1, 0, 0, 2, 1]
    assert find_categories(files, ["it"]) == {"it": ["a", "b", "c"]}
    with pytest.raises(UsageError, match=r"1\.parquet, row 2, column 'it': 'c' is not one of its categories \(a, b\)"):
        TableSource(files, {"x": "it"}, table_format=TableFormat(categories={"it": ["a", "b"]}))
    with pytest.raises(UsageError, match=r"column 'it': contains int64; only text columns have categories"):
        TableSource(in_files(tmp_path, pa.array([1])), {"x": "it"}, table_format=table_format)


def test_columns_side_by_side_keep_their_values(tmp_path: Path) -> None:
    columns = {"a": pa.array([1, 2]), "b": pa.array([0.5, None]), "c": pa.array(["x", "y"]), "d": pa.array([[1], [2]])}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")

    def read(*names: str) -> Any:
        return TableSource([tmp_path / "a.parquet"], {"it": list(names)}).inputs["it"]

    assert equal(read("a", "b"), [[1, 0.5], [2, NAN]])
    with pytest.raises(UsageError, match=r"column 'c': contains texts of shape \(\), but column .* contains int64"):
        read("a", "c")
    with pytest.raises(UsageError, match=r"column 'd': contains int64 of shape \(1,\), but column 'a' of the same"):
        read("a", "d")


def test_names_with_points_and_a_file_of_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfaip_like.data._sources.tables.files.CHUNK_BYTES", 100)
    table = pa.table({"a.b": pa.array(range(500)), "a": pa.array([{"b": -1}] * 500)})
    pq.write_table(table, tmp_path / "a.parquet")
    assert TableSource([tmp_path / "a.parquet"], {"x": "a.b"}).inputs["x"].tolist() == list(range(500))


def test_two_columns_of_one_name_are_rejected(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["it", "it"]), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"a\.parquet: has 2 columns 'it' \(columns 1, 2\)"):
        TableSource([tmp_path / "a.parquet"], {"x": "it"})


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (
            lambda file: np.savez(file, it=np.array([1, None])),
            r"a\.npz, column 'it': cannot be read: it contains Python objects",
        ),
        (lambda file: np.savez(file, it=np.array(5)), r"a\.npz, column 'it': is a scalar, not a column"),
        (lambda file: np.savez(file, it=np.zeros(2), y=np.zeros(3)), r"a\.npz: columns differ in their number of"),
        (lambda file: np.savez(file, it=np.zeros(2, "V4")), r"a\.npz, column 'it': contains \|V4"),
    ],
)
def test_arrays_that_are_not_columns_are_rejected(save: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        targets = {"y": "y"} if "y" in archive.files else None
    with pytest.raises(UsageError, match=message):
        TableSource([tmp_path / "a.npz"], {"x": "it"}, targets)


def test_fields_of_a_structured_array_are_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([(1, 0.5), (2, 1.5)], [("a", ">i4"), ("b", "f8")]))
    assert TableSource([tmp_path / "a.npy"], {"x": ["a", "b"]}).inputs["x"].tolist() == [[1, 0.5], [2, 1.5]]


COLUMN = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)).map(lambda values: pa.array(values, pa.int64())),
    st.lists(st.none() | st.floats(allow_nan=False)).map(lambda values: pa.array(values, pa.float64())),
    st.lists(st.none() | st.floats(width=32, allow_nan=False)).map(lambda values: pa.array(values, pa.float32())),
    st.lists(st.integers(0, 255)).map(lambda values: pa.array(values, pa.uint8())),
)


@given(columns=st.lists(COLUMN, min_size=1, max_size=4))
def test_values_of_files_with_any_types_are_kept_or_rejected(
    columns: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = in_files(tmp_path_factory.getbasetemp(), *columns)
    try:
        found = TableSource(files, {"x": "it"}).inputs["x"].tolist()
    except UsageError as error:
        message = str(error)
    else:
        expected = [value for column in columns for value in column.to_pylist()]
        assert [None if value != value else value for value in found] == expected
        return
    assert "column 'it': is " in message
