"""CSV files as pandas, R, Excel and LibreOffice write them in various countries: read, or rejected in one line."""

from __future__ import annotations

import csv
import io
import logging
import math
import tracemalloc
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tfaip_like import Spec, UsageError
from tfaip_like.data import IsMissing, TableFormat, TableSource, find_categories
from tfaip_like.inference._input_files import read_samples

NAN = math.nan
INF = math.inf
BIG = 2**53 + 1


def read(path: Path, content: bytes, column: str = "x", **table_format: Any) -> np.ndarray[Any, Any]:
    """Return a column of a file with this content."""
    path.write_bytes(content)
    source = TableSource([path], {"it": column}, table_format=TableFormat(**table_format))
    return np.array(source.inputs["it"])


# What wrote it: its bytes, what is printed of it, and its column x.
READ: dict[str, tuple[bytes, dict[str, Any], list[Any]]] = {
    "pandas, index and a text column": (b",name,x\n0,a,1\n1,b,2\n", {}, [1, 2]),
    "pandas, integers with a missing one": (b"x,y\n1.0,2\n,3\n4.0,5\n", {}, [1, NAN, 4]),
    "pandas, nullable integers": (b"x,y\n1,2\n<NA>,3\n4,5\n", {}, [1, NAN, 4]),
    "pandas, inf": (b"x\n1\ninf\n-inf\n", {}, [1, INF, -INF]),
    "pandas, missing in a single column": (b'x\n1.0\n""\n2.0\n', {}, [1, NAN, 2]),
    "pandas, semicolons and points": (b"a;x\n1;0.5\n2;1.234\n", {}, [0.5, 1.234]),
    "pandas, tabs": (b"a\tx\n1\t1.234\n2\t5.125\n", {}, [1.234, 5.125]),
    "pandas, booleans": (b"x,y\nTrue,1\nFalse,2\n", {}, [True, False]),
    "pandas, large identifiers": (b"x\n9007199254740993\n1\n", {}, [BIG, 1]),
    "NumPy, savetxt": (b"a,x\n1.000e+00,2.000e+00\n3.000e+00,4.000e+00\n", {}, [2, 4]),
    "R, write.csv": (b'"","name","x"\n"1","a",1.5\n"2",NA,NA\n', {}, [1.5, NAN]),
    "R, write.csv without row names": (b'"name","x"\n"a",1e+05\n"b",-Inf\n', {}, [1e5, -INF]),
    "R, write.table with commas, row names without a header": (b'"a","x"\n"1",5,1.5\n"2",6,2.5\n', {}, [1.5, 2.5]),
    "R, write.table": (b'"name" "x"\n"1" "a b" 1.5\n"2" "c" NaN\n', {}, [1.5, NAN]),
    "R, write.csv2": (b'"";"x"\n"1";1,5\n"2";NA\n', {}, [1.5, NAN]),
    "R, logical": (b'"x","y"\nTRUE,1\nFALSE,2\nNA,3\n', {}, [1, 0, NAN]),
    "Excel, Germany": ("Größe;x\r\n1,5;2,25\r\n3;1E+05\r\n".encode("cp1252"), {}, [2.25, 1e5]),
    "Excel, Germany, exponent": (b"x;y\r\n1,5E+03;1\r\n-2,5E-01;2\r\n", {}, [1500, -0.25]),
    "Excel, Germany, three digits": (b"x;y\r\n1,234;1\r\n12,345;2\r\n", {}, [1.234, 12.345]),
    "Excel, US, UTF-8": (b"\xef\xbb\xbfx,y\r\n1.5,2\r\n,\r\n2,3\r\n", {}, [1.5, NAN, 2]),
    "Excel, UTF-8 in Germany": ("\ufeffStraße;x\r\nÖlweg;0,5\r\n".encode(), {}, [0.5]),
    "Excel, Unicode text": ("name\tx\r\nä\t1,5\r\nö\t2,75\r\n".encode("utf-16"), {}, [1.5, 2.75]),
    "Excel, Unicode text, big endian": (b"\xfe\xff" + "name\tx\r\nä\t7\r\n".encode("utf-16-be"), {}, [7]),
    "Excel, sep= in the first line": (b"sep=;\r\nname;x\r\na;1,5\r\n", {}, [1.5]),
    "Excel, quotes with separators, newlines and quotes": (
        b'x,note,y\r\n1,"a, b",2\r\n3,"two\r\nlines",4\r\n5,"say ""no""",6\r\n', {}, [1, 3, 5]),
    "Excel, N/A": (b"x,y\r\n1,2\r\n#N/A,3\r\n", {}, [1, NAN]),
    "Excel, separators at the end of rows": (b"y,x\r\n1,2,\r\n3,4,\r\n", {}, [2, 4]),
    "Excel, separators at the end of all lines": (b"y;x;;\r\n1;2;;\r\n3;4;;\r\n", {}, [2, 4]),
    "Excel, an empty row": (b"x,y\r\n1,2\r\n,\r\n3,4\r\n", {}, [1, NAN, 3]),
    "Excel for Mac, CR": (b"x,y\r1,2\r3,4\r", {}, [1, 3]),
    "Excel, decimal comma in quotes": (b'x,y\r\n"1,5",2\r\n"22,75",3\r\n', {}, [1.5, 22.75]),
    "LibreOffice, bars": (b"name|x\na|1.5\nb|2\n", {}, [1.5, 2]),
    "LibreOffice, all cells in quotes": (b'"name","x"\n"a","1"\n"b","2"\n', {}, [1, 2]),
    "LibreOffice, a minus sign": ("x\n\N{MINUS SIGN}5\n7\n".encode(), {}, [-5, 7]),
    "LibreOffice, a single column of decimal commas in quotes": (b'x\n"1,5"\n"2,5"\n', {}, [1.5, 2.5]),
    "LibreOffice, an empty cell in a single column": (b"x\n1\n\n2\n\n\n", {}, [1, NAN, 2]),
    "SQL, NULL": (b"id,x\n1,NULL\n2,3\n", {}, [NAN, 3]),
    "by hand, blanks": (b"y , x\n1, 2\n3 ,4 \n", {}, [2, 4]),
    "by hand, blanks before quotes": (b'name, x\n"a, b", 2\n', {}, [2]),
    "by hand, blank lines": (b"\n\ny,x\n1,2\n\n   \n3,4\n\n", {}, [2, 4]),
    "by hand, no newline at the end": (b"x,y\n1,2", {}, [1]),
    "by hand, signs and short forms": (b"x\n+5\n.5\n5.\n-0.0\n", {}, [5, 0.5, 5, 0]),
    "instrument, a hash among texts": (b"name,x\n#1,5\n#2,6\n", {}, [5, 6]),
    "a column is named twice, another one is wanted": (b"a,a,x\n1,2,3\n", {}, [3]),
    "a dash for a missing value": (b"x,y\n-,1\n2,3\n", {"na_values": ["-"]}, [NAN, 2]),
    "a failed formula for a missing value": (b"x\n1\n#DIV/0!\n", {"na_values": ["#DIV/0!"]}, [1, NAN]),
    "whole numbers with a default": (b"x,y\n1,2\nNA,3\n", {"missing": {"x": -1}}, [1, -1]),
    "booleans with a default": (b"x\nTRUE\nNA\n", {"missing": {"x": 0}}, [1, 0]),
    "booleans with a boolean as default": (b"x\nTRUE\nNA\n", {"missing": {"x": False}}, [True, False]),
    "large numbers with a default": (b"x\n9007199254740993\nNA\n", {"missing": {"x": -1}}, [BIG, -1]),
    "unsigned 64 bits": (b"x\n18446744073709551615\n1\n", {}, [2**64 - 1, 1]),
    "texts": ("name;x\n1;Köln\n2; a, b\n".encode(), {"texts": ["x"]}, ["Köln", "a, b"]),
    "texts that look like numbers or NA": (b"y,x\n1,007\n2,NA\n", {"texts": ["x"]}, ["007", "NA"]),
    "categories": (b"y,x\n1,red\n2,blue \n3,red\n", {"categories": {"x": ["blue", "red"]}}, [1, 0, 1]),
    "categories of which one is NA": (b"y,x\n1,NA\n2,DE\n", {"categories": {"x": ["DE", "NA"]}}, [1, 0]),
    "categories with a default": (b"y,x\n1,\n2,b\n", {"categories": {"x": ["a", "b"]}, "missing": {"x": "a"}}, [0, 1]),
    "categories with a code as default": (
        b"y,x\n1,\n2,b\n", {"categories": {"x": ["a", "b"]}, "missing": {"x": -1}}, [-1, 1]),
    "points of unknown meaning, but given": (b"y;x\n1;1.234\n", {"decimal": "."}, [1.234]),
    "cp1251, given": ("x;y\n1;Ж\n".encode("cp1251"), {"encoding": "cp1251"}, [1]),
    "UTF-8 with a mark, given": (b"\xef\xbb\xbfx,y\n1,2\n", {"encoding": "UTF-8"}, [1]),
    "another delimiter": (b"y:x\n1:2\n", {"delimiter": ":"}, [2]),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_common_csv_dialects_are_read(name: str, tmp_path: Path) -> None:
    content, table_format, expected = READ[name]
    found = read(tmp_path / "rows.csv", content, **table_format)
    assert found.tolist() == pytest.approx(expected, rel=0, abs=0, nan_ok=True) if found.dtype.kind == "f" else expected
    if all(isinstance(value, int) and not isinstance(value, bool) for value in expected):
        assert found.dtype.kind in "iu" or name.startswith("booleans")
    assert (found.dtype.kind == "b") == all(isinstance(value, bool) for value in expected)


# What is wrong: the bytes, and the message that is to name file, line and column x.
REFUSED: dict[str, tuple[bytes, str]] = {
    "a row that begins with a hash": (b"x,y\n1,2\n#3,4\n", "line 3, column 'x': '#3' is not a number; add the column"),
    "a dash": (b"x,y\n1,2\n-,4\n", "line 3, column 'x': '-' is not a number"),
    "a failed formula": (b"x\n1\n#DIV/0!\n", "line 3, column 'x': '#DIV/0!' is not a number"),
    "a text behind a cell of two lines": (b'y,x\n"a\nb",1\nc,d\n', "line 4, column 'x': 'd' is not a number"),
    "thousands, US": (b'x,y\n"1,234.5",1\n', "line 2, column 'x': '1,234.5' has thousands separators"),
    "thousands, Germany": (b"x;y\n1.234,5;1\n", "line 2, column 'x': '1.234,5' has thousands separators"),
    "thousands, France": (
        "x;y\n1\u202f234,5;1\n".encode(),
        "line 2, column 'x': '1\\u202f234,5' has thousands separators",
    ),
    "thousands, Switzerland": (b"x;y\n1'234.5;1\n", "line 2, column 'x': \"1'234.5\" has thousands separators"),
    "thousands, many": (b"x;y\n1.234.567;1\n", "line 2, column 'x': '1.234.567' has thousands separators"),
    "perhaps thousands, Germany": (
        b"x;y\n12;1\n1.234;1\n",
        "'1.234' (line 3, column 'x') is ambiguous",
    ),
    "perhaps thousands, US": (
        b'x,y\n"1,234",1\n',
        "'1,234' (line 2, column 'x') is ambiguous: decimal or thousands separator?",
    ),
    "perhaps thousands, Unicode text": (
        "y\tx\r\n1\t1.234\r\n".encode("utf-16"),
        "'1.234' (line 2, column 'x') is ambiguous",
    ),
    "points and commas": (
        b"x;y\n1.5;1\n2,5;2\n",
        "line 3, column 'x': '2,5' has a different decimal separator than '1.5' (li",
    ),
    "commas, then thousands": (
        b"x;y\n1,5;1\n2.500;2\n",
        "line 3, column 'x': '2.500' has a different decimal separator than",
    ),
    "points, then thousands": (
        b'x,y\n1.5,1\n"2,500",2\n',
        "line 3, column 'x': '2,500' has a different decimal separator",
    ),
    "percent": (b"x,y\n1%,2\n", "line 2, column 'x': '1%' is a percentage"),
    "currency": ("x;y\n1,50 €;2\n".encode(), "line 2, column 'x': '1,50 €' is not a number"),
    "a date": (b"x,y\n2024-01-31,2\n", "line 2, column 'x': '2024-01-31' is not a number"),
    "a date, Germany": (b"x;y\n31.01.2024;2\n", "line 2, column 'x': '31.01.2024' is not a number"),
    "a time": (b"x,y\n12:30,2\n", "line 2, column 'x': '12:30' is not a number"),
    "underscores": (b"x,y\n1_000,2\n", "line 2, column 'x': '1_000' is not a number"),
    "digits of another script": ("x,y\n\u0661\u0662,2\n".encode(), "line 2, column 'x': '\u0661\u0662' is not"),
    "hexadecimal": (b"x,y\n0x10,2\n", "line 2, column 'x': '0x10' is not a number"),
    "booleans among numbers": (b"x,y\n1,2\nTRUE,2\n", "line 3, column 'x': 'TRUE' is a boolean among numbers"),
    "numbers among booleans": (b"x,y\nTRUE,2\n1,2\n", "line 3, column 'x': '1' is a number among booleans"),
    "booleans, Germany": (b"x;y\nWAHR;2\n", "line 2, column 'x': 'WAHR' is not a number"),
    "a large number among fractions": (
        b"x\n0.5\n9007199254740993\n",
        "line 3, column 'x': '9007199254740993' is an integer",
    ),
    "a large number among missing ones": (
        b"x,y\n9007199254740993,1\n,2\n",
        "line 2, column 'x': is 9007199254740993, an integer",
    ),
    "too large a whole number": (
        b"x\n1\n99999999999999999999\n",
        "line 3, column 'x': '99999999999999999999' exceeds the range",
    ),
    "too large a number": (b"x\n1\n1e999\n", "line 3, column 'x': '1e999' exceeds the range of float64"),
    "a cell too many": (b"x,y\n1,2\n3,4,5\n", "line 3: has 3 cells, expected 2 (x, y)"),
    "a cell too few": (b"x,y,z\n1,2,3\n4,5\n", "line 3: has 2 cells, expected 3"),
    "commas as separators of all": (b"x,y\n1,5,2,5\n", "line 2: has 4 cells, expected 2"),
    "perhaps a decimal comma": (b"y,x\n1,5,2\n", "line 2: has 3 cells, expected 2"),
    "a single column of decimal commas": (b"x\n1,5\n", "line 2: has 2 cells, expected 1"),
    "an open quote": (b'x,y\n1,"a\n2,3\n', "line 3: unclosed quote, opened on this line or before"),
    "text behind a quote": (b'x,y\n1,"a"b\n', "line 2: text after a closing quote"),
    "comments before the header": (b"# x\n# 2024\nx,y\n1,2\n", "has no column 'x'; available: # x"),
    "no column of this name": (b"a,b\n1,2\n", "has no column 'x'; available: a, b"),
    "no header": (b"1,2\n3,4\n", "has no column 'x'; available: 1, 2"),
    "two columns of this name": (b"x,a,x\n1,2,3\n", "has 2 columns 'x' (columns 1, 3)"),
    "nothing at all": (b"", "empty file; the first line must contain the column names"),
    "blank lines alone": (b"\n\n", "empty file; the first line must contain the column names"),
    "UTF-16 without a mark": ("x,y\n1,2\n".encode("utf-16-le"), "contains NUL bytes, so it is not a text table"),
    "a workbook": (b"PK\x03\x04\x00\x00", "contains NUL bytes, so it is not a text table"),
    "bytes that are in no encoding": (b"x,y\n1,\xff\x81\n", "not valid cp1252; set TableFormat.encoding"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_ambiguous_cells_are_rejected_in_one_line(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    path = tmp_path / "rows.csv"
    with pytest.raises(UsageError) as raised:
        read(path, content)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "table_format", "message"),
    [
        (b"y,x\n1,red\n2,green\n", {"categories": {"x": ["red"]}}, "line 3, column 'x': 'green' is not one of its cat"),
        (b"y,x\n1,red\n2,\n", {"categories": {"x": ["red"]}}, "line 3, column 'x': is missing; set a value"),
        (b"y,x\n1,a\n2,-\n", {"texts": ["x"], "na_values": ["-"]}, "line 3, column 'x': is missing; set a value"),
        (b"x\n1.5\n", {"decimal": ","}, "line 2, column 'x': '1.5' is not a number with the decimal separator ','"),
        (b"x,y\n1,\xe4\n", {"encoding": "utf-8"}, "not valid utf-8"),
    ],
)  # fmt: skip
def test_tables_that_contradict_the_format_are_rejected(
    content: bytes, table_format: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as raised:
        read(tmp_path / "rows.csv", content, **table_format)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("table_format", "message"),
    [
        ({"delimiter": ",,"}, r"^TableFormat\.delimiter ,,: must be a single character"),
        ({"encoding": "klingon"}, "encoding"),
        ({"categories": {"x": ["a", "a"]}}, "categories"),
        ({"categories": {"x": ["a"]}, "missing": {"x": "b"}}, "missing"),
    ],
)
def test_a_wrong_format_is_rejected(table_format: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "rows.csv", b"x\n1\n", **table_format)


def test_a_file_that_is_not_utf_8_is_named_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = "x;name\n1;a\n2;ö\n".encode("cp1252")
    assert read(tmp_path / "rows.csv", content).tolist() == [1, 2]
    assert not any(record.levelno >= logging.WARNING for record in caplog.records)  # numbers need no encoding
    assert read(tmp_path / "rows.csv", content, "name", texts=["name"]).tolist() == ["a", "ö"]
    assert "rows.csv: line 3 is not UTF-8; assuming cp1252" in caplog.text


def test_a_format_for_a_column_that_is_not_there_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(tmp_path / "rows.csv", b"x,y\n1,2\n", missing={"x": 0, "wieght": 0})
    assert "rows.csv: table_format names unknown columns: wieght" in caplog.text


@pytest.mark.parametrize("columns", [{}, {"it": []}])
def test_a_table_without_columns_is_rejected(columns: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x\n1\n")
    with pytest.raises(UsageError, match="every input and target needs at least one column"):
        TableSource([tmp_path / "rows.csv"], columns)


def test_one_long_text_needs_little_memory(tmp_path: Path) -> None:
    content = b"x,y\n" + b"a,1\n" * 100000 + b"b" * 9000 + b",2\n"
    tracemalloc.start()
    found = read(tmp_path / "rows.csv", content, "y", texts=["x"])
    assert len(found) == 100001
    path = tmp_path / "rows.csv"
    source = TableSource([path], {"it": "x"}, table_format=TableFormat(categories={"x": ["a", "b" * 9000]}))
    assert source.inputs["it"][-2:].tolist() == [0, 1]
    assert tracemalloc.get_traced_memory()[1] < 2**28
    tracemalloc.stop()


def test_missing_values_are_available_as_a_mask(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,NA\n,2\n")
    table_format = TableFormat(missing={"a": 0, "b": 0})
    columns = {"x": ["a", "b"], "no_x": IsMissing(["a", "b"]), "no_a": IsMissing("a")}
    source = TableSource([tmp_path / "rows.csv"], columns, table_format=table_format)
    assert source.inputs["x"].tolist() == [[1, 0], [0, 2]]
    assert source.inputs["no_x"].tolist() == [[False, True], [True, False]]
    assert source.inputs["no_a"].tolist() == [False, True]


def test_the_line_of_any_row_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('x,y\n1,"two\nlines"\n\n2,b\n')
    (tmp_path / "b.csv").write_text("x,y\n3,c\n")
    source = TableSource([tmp_path / "a.csv", tmp_path / "b.csv"], {"x": "x"})
    places = [source.describe(index) for index in range(3)]
    assert places == [f"{tmp_path}/a.csv, line 2", f"{tmp_path}/a.csv, line 5", f"{tmp_path}/b.csv, line 2"]


@pytest.mark.parametrize("large_first", [False, True])
def test_a_large_number_next_to_fractions_of_another_file_is_named(large_first: bool, tmp_path: Path) -> None:
    (tmp_path / "large.csv").write_text(f"x\n1\n{BIG}\n")
    (tmp_path / "fractions.csv").write_text("x\n0.5\n")
    names = ["large.csv", "fractions.csv"] if large_first else ["fractions.csv", "large.csv"]
    with pytest.raises(UsageError, match=r"large\.csv, line 3, column 'x': is 9007199254740993, an integer that"):
        TableSource([tmp_path / name for name in names], {"x": "x"})


def test_a_large_number_next_to_a_column_of_fractions_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"x,y\n0.5,1\n0.5,{BIG}\n")
    with pytest.raises(UsageError, match=r"a\.csv, line 3, column 'y': is 9007199254740993, an integer that"):
        TableSource([tmp_path / "a.csv"], {"it": ["x", "y"]})


def test_rows_of_many_batches_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"a,x\n" + b"".join(b"%d,%s\n" % (row, b"0.5" if row == 70 else b"%d" % row) for row in range(100))
    whole = read(tmp_path / "rows.csv", content)
    monkeypatch.setattr("tfaip_like.data._sources.tables.csv_files.CELLS_PER_BATCH", 14)
    monkeypatch.setattr("tfaip_like.data._sources.tables.csv_files.MIN_ROWS_PER_BATCH", 1)
    monkeypatch.setattr("tfaip_like.data._sources.tables.stored.CHUNK_BYTES", 24)
    np.testing.assert_array_equal(read(tmp_path / "rows.csv", content), whole)
    assert whole[69:72].tolist() == [69, 0.5, 71]


NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.none())


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@hypothesis.given(rows=st.lists(st.tuples(NUMBERS, TEXTS)))
def test_numbers_never_change_silently(
    rows: list[tuple[float | None, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["x", "text"], *(("" if x is None else repr(x), words) for x, words in rows)])
    path = tmp_path_factory.getbasetemp() / "numbers.csv"
    try:
        found = read(path, text.getvalue().encode())
    except UsageError as error:
        message = str(error)
    else:
        assert [None if value != value else value for value in found.tolist()] == [x for x, _ in rows]
        return
    assert "an integer that float64 cannot represent exactly" in message


@hypothesis.given(content=st.binary(max_size=200))
def test_any_file_is_read_or_rejected_by_its_name(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    try:
        read(path, b"x,y\n1,2\n" + content)
    except UsageError as error:
        message = str(error)
    else:
        return
    assert str(path) in message


def test_the_categories_of_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("colour,size\nred,1\n blue,2\nNA,3\n")
    (tmp_path / "b.csv").write_text("size,colour\n1,\n2,green\n")
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    categories = find_categories(files, ["colour"])
    assert categories == {"colour": ["blue", "green", "red"]}
    table_format = TableFormat(categories=categories, missing={"colour": -1})
    source = TableSource(files, {"x": "colour"}, table_format=table_format)
    assert source.inputs["x"].tolist() == [2, 0, -1, -1, 1]
    np.savez(tmp_path / "c.npz", colour=np.zeros(3))
    with pytest.raises(
        UsageError, match=r"c\.npz, column 'colour': contains float64; only text columns have categories"
    ):
        find_categories([tmp_path / "c.npz"], ["colour"])


INPUTS = {"colour": Spec((), "int32"), "size": Spec(())}
FORMAT = TableFormat(categories={"colour": ["red", "blue"]}, missing={"size": 0})


def read_predict_samples(
    tmp_path: Path, name: str, content: str, inputs: dict[str, Spec] = INPUTS
) -> list[dict[str, Any]]:
    """Return the inputs of the samples in a file that predict-scenario is given."""
    (tmp_path / name).write_text(content)
    source = read_samples([str(tmp_path / name)], inputs, "--predict.files", FORMAT)
    return [{key: np.asarray(value).item() for key, value in sample.inputs.items()} for sample in source]


def test_samples_to_predict_have_the_categories_and_defaults_of_the_training(tmp_path: Path) -> None:
    expected = [{"colour": 1, "size": 1.5}, {"colour": 0, "size": 0}]
    assert read_predict_samples(tmp_path, "a.csv", "id;colour;size\na;blue;1,5\nb;red;\n") == expected
    lines = '{"colour": "blue", "size": 1.5}\n{"colour": "red", "size": null}\n'
    assert read_predict_samples(tmp_path, "a.jsonl", lines) == expected
    assert read_predict_samples(tmp_path, "b.jsonl", '{"colour": 1, "size": 2}\n') == [{"colour": 1, "size": 2}]


def test_columns_to_predict_are_those_of_the_training(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,pt,eta,weight\na,1,2,3\n")
    np.savez(tmp_path / "a.npz", pt=[1.0], eta=[2.0], weight=[3.0], other=[4.0])
    table_format = TableFormat(columns={"x": ["pt", "eta"], "w": ["weight"]}, masks={"no_w": ["weight"]})
    inputs = {"x": Spec((2,)), "w": Spec(()), "no_w": Spec((), "bool")}
    for name in ("a.csv", "a.npz"):
        (sample,) = read_samples([str(tmp_path / name)], inputs, "--predict.files", table_format)
        assert {key: value.tolist() for key, value in sample.inputs.items()} == {"x": [1, 2], "w": 3, "no_w": False}


def test_processors_get_columns_that_are_not_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,sentence\na,so be it\n")
    np.savez(tmp_path / "a.npz", sentence=["so be it"], id=["a"])
    table_format = TableFormat(texts=["sentence"])
    for name, expected in {"a.csv": {"sentence"}, "a.npz": {"sentence", "id"}}.items():
        (sample,) = read_samples([str(tmp_path / name)], {"ids": Spec((None,))}, "", table_format, is_processed=True)
        assert set(sample.inputs) == expected
        assert str(sample.inputs["sentence"]) == "so be it"
    with pytest.raises(
        UsageError, match=r"a\.csv: no column for input 'ids' \(expected ids\); available: id, sentence"
    ):
        read_samples([str(tmp_path / "a.csv")], {"ids": Spec((None, 2))}, "", TableFormat(), is_processed=True)


def test_null_in_json_lines_is_nan(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": [[1, null], [null, 2]], "y": null}\n')
    source = read_samples([str(tmp_path / "a.jsonl")], {"x": Spec((2, 2)), "y": Spec(())}, "--predict.files")
    (sample,) = source
    np.testing.assert_array_equal(sample.inputs["x"], [[1, NAN], [NAN, 2]])
    assert np.isnan(sample.inputs["y"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "colour,size\nred,1\ngreen,2\n",
            "a.csv, line 3, column 'colour': 'green' is not one of its categories",
        ),
        (
            "a.jsonl",
            '{"colour": "red"}\n{"colour": "green"}\n',
            "a.jsonl, line 2: 'colour': 'green' is not one of its cat",
        ),
    ],
)
def test_an_unknown_category_to_predict_is_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        read_predict_samples(tmp_path, name, content)
    assert message in str(raised.value)


def test_a_table_to_predict_without_a_header_loses_no_row(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.csv: no header; the first line must contain the column names"):
        read_predict_samples(tmp_path, "a.csv", "1.5,2\n3,4\n", {"x": Spec((2,))})
