"""Sources of shards that are read in place: WebDataset, Parquet and ArrayRecord files."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small import Noise, Small, small
from stopping import differences

from tfaip_like import Data, Mode, Sample, Spec, UsageError, train
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import list_checkpoints
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.data import (
    ArrayRecordSource,
    IsMissing,
    ParquetSource,
    Source,
    TableFormat,
    TableSource,
    TrainLoaderSettings,
    Uniform,
    ValueFilter,
    WebDatasetSource,
)
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.loader_factory import open_training
from tfaip_like.data._loader.sampler import INDEX
from tfaip_like.data._loader.windows import WindowSampler, blocks_per_window
from tfaip_like.data._sources.indexed import IndexRange
from tfaip_like.data._sources.shards.tar_index import index_path, split_name
from tfaip_like.settings import Resume

FORMATS = ("tar", "parquet", "array_record")
NUM_SHARDS, ROWS_PER_SHARD = 5, 30


def write_tar(path: Path, samples: Sequence[Mapping[str, bytes]], name: str = "s{}") -> None:
    """Write samples, given by extension, as a WebDataset shard."""
    with tarfile.open(path, "w") as archive:
        for number, files in enumerate(samples):
            for extension, data in files.items():
                member = tarfile.TarInfo(f"{name.format(number)}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def to_npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def decode_numpy(data: bytes) -> Any:
    return np.load(io.BytesIO(data))


def parse(record: bytes) -> Sample:
    """Return the sample of an ArrayRecord."""
    number = int(record)
    return Sample({"x": np.array([number, number + 0.5], "float32")}, {"y": np.int32(number % 7)})


def write_shard(folder: Path, kind: str, shard: int, rows: int = ROWS_PER_SHARD) -> Path:
    """Write one shard of samples that are numbered over all shards."""
    numbers = range(shard * ROWS_PER_SHARD, shard * ROWS_PER_SHARD + rows)
    path = folder / f"{shard:03d}.{kind}"
    if kind == "tar":
        x = [to_npy(np.array([number, number + 0.5], "float32")) for number in numbers]
        write_tar(path, [{"npy": a, "cls": b"%d" % (n % 7)} for n, a in zip(numbers, x, strict=True)])
    elif kind == "parquet":
        columns = {"a": np.array(numbers, "float32"), "b": np.array(numbers) + 0.5, "y": np.array(numbers) % 7}
        pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=8)
    else:
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for number in numbers:
            writer.write(b"%d" % number)
        writer.close()
    return path


def open_shards(folder: Path, kind: str) -> WebDatasetSource | ParquetSource | ArrayRecordSource:
    files = folder / f"*.{kind}"
    if kind == "tar":
        return WebDatasetSource(files, {"x": "npy"}, {"y": "cls"}, index_dir=folder / "index")
    if kind == "parquet":
        return ParquetSource(files, {"x": ["a", "b"]}, {"y": "y"})
    return ArrayRecordSource(files, parse)


class Shards(Data):
    """Numbers in shards."""

    folder: Path = Path()
    """Directory of the shards."""

    kind: str = "tar"
    """Their format."""

    inputs = {"x": Spec((2,))}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> Source | None:
        return open_shards(self.folder, self.kind) if mode is Mode.TRAIN else None


class Integers(Shards):
    """Shards with integers as targets."""

    targets = {"y": Spec((), "int32")}


def open_loader(data: Data, seed: int = 1, **settings: Any) -> DataLoader:
    settings = {"batch_size": 4, "num_processes": 0, **settings}
    return open_training(data, data.source(Mode.TRAIN), TrainLoaderSettings(**settings), None, seed)


@pytest.fixture(scope="module", params=FORMATS)
def shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp(request.param)
    for shard in range(NUM_SHARDS):
        write_shard(folder, request.param, shard)
    return Shards(folder=folder, kind=request.param)


def test_rows_of_all_shards_are_concatenated(shards: Shards) -> None:
    source = open_shards(shards.folder, shards.kind)
    assert len(source) == NUM_SHARDS * ROWS_PER_SHARD
    for index in (0, 29, 30, 77, 149):
        np.testing.assert_array_equal(source[index].inputs["x"], [index, index + 0.5])
        assert source[index].targets["y"] == index % 7
    assert source.describe(77) == f"{shards.folder / '002.'}{shards.kind}, row 18"


def test_each_epoch_reads_every_row_of_the_shards_once_in_another_order(shards: Shards) -> None:
    loader = open_loader(shards, batch_size=10)
    passes = [
        np.concatenate([loader.batch(number).inputs["x"][:, 0] for number in range(first, first + 15)])
        for first in (0, 15, 30)
    ]
    for order in passes:
        assert sorted(order.tolist()) == list(range(150))
    assert len({tuple(order.tolist()) for order in passes}) == 3


@pytest.mark.parametrize("num_processes", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_on_shards_continues_at_any_step_with_the_same_batches(shards: Shards, num_processes: int) -> None:
    full = list(open_loader(shards).iter_training(0, 50))
    for first in (1, 17, 38):
        loader = open_loader(shards, num_processes=num_processes)
        rest = list(loader.iter_training(first, 50))
        loader.close()
        for name in ("x",):
            np.testing.assert_array_equal(
                np.concatenate([batch.inputs[name] for batch in rest]),
                np.concatenate([batch.inputs[name] for batch in full])[first:],
            )


def test_a_changed_shard_is_an_error(shards: Shards, tmp_path: Path) -> None:
    path = write_shard(tmp_path, shards.kind, 0)
    source = open_shards(tmp_path, shards.kind)
    write_shard(tmp_path, shards.kind, 0, rows=20)
    with pytest.raises(UsageError, match=f"{path}: changed since it was opened"):
        source[0]


def test_a_missing_shard_is_an_error(shards: Shards, tmp_path: Path) -> None:
    path = write_shard(tmp_path, shards.kind, 0)
    source = open_shards(tmp_path, shards.kind)
    path.unlink()
    with pytest.raises(UsageError, match=f"{path}: No such file"):
        source[0]
    with pytest.raises(UsageError, match="no file matches"):
        open_shards(tmp_path, shards.kind)


def test_a_truncated_shard_is_an_error_that_names_it(shards: Shards, tmp_path: Path) -> None:
    path = write_shard(tmp_path, shards.kind, 0)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UsageError, match=str(path)):
        open_shards(tmp_path, shards.kind)


def test_a_file_of_another_format_is_an_error_that_names_it(shards: Shards, tmp_path: Path) -> None:
    path = tmp_path / f"0.{shards.kind}"
    path.write_text("something else\n" * 100)
    with pytest.raises(UsageError, match=str(path)):
        open_shards(tmp_path, shards.kind)


def test_shards_without_samples_are_an_error(shards: Shards, tmp_path: Path) -> None:
    path = write_shard(tmp_path, shards.kind, 0, rows=0)
    with pytest.raises(UsageError, match=f"{path}: contains no samples"):
        open_shards(tmp_path, shards.kind)
    write_shard(tmp_path, shards.kind, 1, rows=1)
    assert open_shards(tmp_path, shards.kind)[0].inputs["x"][0] == ROWS_PER_SHARD


class Kill(Callback):
    """Kill the process in the second epoch."""

    every: str = "25steps"

    def on_step_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def shard_training(shards: Shards, folder: Path) -> Small:
    trainer = {"epochs": 3, "checkpoint_every": "2steps", "steps_per_execution": 1}
    data = dataclasses.replace(shards, processors=[Noise()])
    return small(folder / "run", data=data, train={"num_processes": 0, "shuffle_buffer": 40}, trainer=trainer)


@pytest.mark.slow
def test_a_training_on_shards_that_was_killed_resumes_with_the_same_bits(shards: Shards, tmp_path: Path) -> None:
    train(shard_training(shards, tmp_path / "straight"))
    code = (
        "from pathlib import Path; from test_shards import *; "
        f"data = Shards(folder=Path({str(shards.folder)!r}), kind={shards.kind!r});"
        f"train(shard_training(data, Path({str(tmp_path)!r}, 'killed')), callbacks=[Kill()])"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=False)
    assert process.returncode == -signal.SIGKILL
    run = tmp_path / "killed" / "run"
    last = list_checkpoints(OutputDir(run).checkpoints)[-1]
    assert last.position.epoch == 1
    assert last.position.step > 0
    train(shard_training(shards, tmp_path / "killed"), Resume())
    assert differences(tmp_path / "straight" / "run", run) == []


# Contents.


def test_files_of_a_webdataset_sample_are_decoded_by_extension(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    image = io.BytesIO()
    Image.fromarray(pixels).save(image, "png")
    files = {
        "PNG": image.getvalue(),
        "cls": b"3\n",
        "json": b'{"a": [1, 2]}',
        "txt": "ä".encode(),
        "seg.npy": to_npy([1, 2]),
        "raw": b"ab",
    }
    write_tar(tmp_path / "0.tar", [files])
    source = WebDatasetSource(
        [tmp_path / "0.tar"],
        inputs={"image": "jpg;png", "mask": "seg.npy"},
        targets={"label": "cls"},
        meta={"info": "json", "text": "txt", "raw": "raw"},
        decoders={"seg.npy": decode_numpy, "raw": bytes.decode},
        index_dir=tmp_path,
    )
    sample = source[0]
    np.testing.assert_array_equal(sample.inputs["image"], pixels)
    np.testing.assert_array_equal(sample.inputs["mask"], [1, 2])
    assert sample.targets["label"] == 3
    assert sample.meta == {"info": {"a": [1, 2]}, "text": "ä", "raw": "ab"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", ("a", "jpg")),
        ("a/b.c/d.seg.PNG", ("a/b.c/d", "seg.png")),
        ("a/README", ("a/README", "")),
        ("a/.hidden", ("a/.hidden", "")),
        ("./a.cls", ("./a", "cls")),
    ],
)
def test_the_key_of_a_webdataset_file_ends_at_the_first_dot_of_its_name(name: str, expected: tuple[str, str]) -> None:
    assert split_name(name) == expected


def test_long_names_and_other_members_of_a_tar_file_are_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.add(tmp_path, "folder", recursive=False)
    write_tar(tmp_path / "1.tar", [{"cls": b"1"}, {"cls": b"2"}], name="d" * 150 + "/{}")
    write_tar(tmp_path / "2.tar", [{"cls": b"3"}], name="__hidden/.{}")
    source = WebDatasetSource(tmp_path / "[01].tar", {"x": "cls"}, index_dir=tmp_path)
    assert [sample.inputs["x"] for sample in source] == [1, 2]


def test_a_file_of_a_shard_that_cannot_be_decoded_is_a_bad_sample(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [{"npy": to_npy([n, n]), "cls": b"x" if n == 2 else b"1"} for n in range(6)])
    data = Shards(folder=tmp_path, on_bad_sample="skip")
    loader = open_loader(data, batch_size=6)
    bad = loader.batch(0).bad
    assert [sample.place for sample in bad] == [f"training sample 2 of Shards ({tmp_path}/0.tar, row 3)"]
    assert bad[0].reason.startswith(f"UsageError: {tmp_path}/0.tar, row 3, s2.cls: cannot be read as cls: invalid lit")


def test_a_sample_without_a_needed_file_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [{"npy": b"", "cls": b"1"}, {"cls": b"1"}])
    source = WebDatasetSource(tmp_path / "0.tar", {"x": "npy;npz"}, index_dir=tmp_path, decoders={"npz": len})
    with pytest.raises(UsageError, match="row 2: has no file with the extension npy or npz, but cls"):
        source[1]
    with pytest.raises(UsageError, match="0.tar: contains no file with the extension jpg, but npy, cls"):
        WebDatasetSource(tmp_path / "0.tar", {"x": "jpg"}, index_dir=tmp_path)
    with pytest.raises(UsageError, match=r"no decoder of 'flac' files; pass decoders=\{'flac': function\}"):
        WebDatasetSource(tmp_path / "0.tar", {"x": "flac"}, index_dir=tmp_path)


def test_two_files_of_one_extension_are_an_error(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [{"cls": b"1"}, {"cls": b"1", "CLS": b"2"}])
    with pytest.raises(UsageError, match="0.tar, row 2: has two files with the extension cls"):
        WebDatasetSource(tmp_path / "0.tar", {"x": "cls"}, index_dir=tmp_path)


@pytest.mark.parametrize("cut", [512, 700, 1024, 5 * 512])
def test_a_damaged_tar_file_is_an_error(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    write_tar(path, [{"cls": b"%d" % number} for number in range(3)])
    os.truncate(path, cut)
    with pytest.raises(UsageError, match="0.tar: damaged after row"):
        WebDatasetSource(path, {"x": "cls"}, index_dir=tmp_path)


def test_a_damaged_header_in_a_tar_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    write_tar(path, [{"cls": b"%d" % number} for number in range(3)])
    content = bytearray(path.read_bytes())
    content[1024:1100] = b"?" * 76
    path.write_bytes(content)
    with pytest.raises(UsageError, match="0.tar: damaged after row 1: truncated, or a damaged header"):
        WebDatasetSource(path, {"x": "cls"}, index_dir=tmp_path)


def test_the_index_of_a_tar_file_is_built_once_and_a_later_change_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "0.tar"
    write_tar(path, [{"cls": b"1"}])
    WebDatasetSource(path, {"x": "cls"})
    index = index_path(str(path), tmp_path / "cache/tfaip_like/shards")
    assert index.exists()
    with monkeypatch.context() as patch:
        patch.setattr("tarfile.open", None)
        assert WebDatasetSource(path, {"x": "cls"})[0].inputs["x"] == 1
    write_tar(path, [{"cls": b"1"}, {"cls": b"2"}])
    with pytest.raises(UsageError, match=f"changed since its index was built; .* delete the index {index}"):
        WebDatasetSource(path, {"x": "cls"})
    index.write_bytes(index.read_bytes()[:50])
    with pytest.raises(UsageError, match=f"{index}: cannot be read as the index of {path}; delete it"):
        WebDatasetSource(path, {"x": "cls"})
    index.unlink()
    assert len(WebDatasetSource(path, {"x": "cls"})) == 2


def test_an_index_directory_that_is_not_writable_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [{"cls": b"1"}])
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"choose another directory: WebDatasetSource\(index_dir=\.\.\.\)"):
        WebDatasetSource(tmp_path / "0.tar", {"x": "cls"}, index_dir=tmp_path / "file")


def test_columns_of_parquet_shards_are_converted_like_those_of_tables(tmp_path: Path) -> None:
    columns = {"c": ["red", "blue", None], "v": [[1.0, 2.0]] * 3, "w": [1, None, 3]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "0.parquet")
    table_format = TableFormat(categories={"c": ["blue", "red"]}, missing={"c": "blue", "w": -1})
    selection: dict[str, Any] = {"c": "c", "v": "v", "w": "w", "missing": IsMissing(["w"])}
    source = ParquetSource(tmp_path / "0.parquet", selection, table_format=table_format)
    table = TableSource([tmp_path / "0.parquet"], selection, table_format=table_format)
    for one, other in zip(source, table, strict=True):
        for name in selection:
            np.testing.assert_array_equal(one.inputs[name], other.inputs[name])


@given(indices=st.lists(st.integers(0, 149), min_size=1, max_size=30))
def test_rows_of_parquet_shards_read_together_are_those_read_alone(
    indices: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "together"
    if not folder.exists():
        folder.mkdir()
        for shard in range(NUM_SHARDS):
            write_shard(folder, "parquet", shard)
    source = open_shards(folder, "parquet")
    assert isinstance(source, ParquetSource)
    inputs, targets = source.rows(np.array(indices))
    np.testing.assert_array_equal(inputs["x"], [source[index].inputs["x"] for index in indices])
    np.testing.assert_array_equal(targets["y"], [source[index].targets["y"] for index in indices])


def test_a_missing_integer_in_a_parquet_shard_is_named(tmp_path: Path) -> None:
    columns = {"a": [1.0] * 9, "b": [2.0] * 9, "y": [1] * 7 + [None, 2]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "0.parquet", row_group_size=3)
    data = Integers(folder=tmp_path, kind="parquet", on_bad_sample="skip")
    (bad,) = {bad.place: bad for bad in open_loader(data, batch_size=9).batch(0).bad}.values()
    assert "row 8" in bad.place
    assert "'y' has missing values" in bad.reason


def test_a_parquet_value_that_cannot_be_converted_is_named(tmp_path: Path) -> None:
    columns = {"c": ["red", "blue", "green"] * 5}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "0.parquet", row_group_size=5)
    source = ParquetSource(
        tmp_path / "0.parquet", {"c": "c"}, table_format=TableFormat(categories={"c": ["red", "blue"]})
    )
    with pytest.raises(UsageError, match="0.parquet, row 6, column 'c': .*'green'"):
        source[7]
    with pytest.raises(UsageError, match="has no column 'd'; available: c"):
        ParquetSource(tmp_path / "0.parquet", {"d": "d"})


def test_a_damaged_row_group_is_a_bad_sample_for_each_of_its_rows(tmp_path: Path) -> None:
    path = write_shard(tmp_path, "parquet", 0)
    metadata = pyarrow.parquet.read_metadata(path)
    offset = metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 20] = b"\xff" * 20
    path.write_bytes(content)
    loader = open_loader(Shards(folder=tmp_path, kind="parquet", on_bad_sample="skip"), batch_size=30, shuffle=False)
    places = {bad.place for bad in loader.batch(0).bad}
    assert places == {f"training sample {row} of Shards ({path}, row {row + 1})" for row in range(8, 16)}


def test_a_damaged_record_of_an_array_record_file_is_a_bad_sample(tmp_path: Path) -> None:
    path = tmp_path / "0.array_record"
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for number in range(20):
        writer.write(b"%d" % number + b" " * 100_000)
    writer.close()
    content = bytearray(path.read_bytes())
    place = content.index(b"7  ")
    content[place : place + 50_000] = b"?" * 50_000
    path.write_bytes(content)
    loader = open_loader(Shards(folder=tmp_path, kind="array_record", on_bad_sample="skip"), batch_size=20)
    (bad,) = {bad.place: bad for bad in loader.batch(0).bad}.values()
    assert f"({path}, row 8)" in bad.place
    assert "row 8: cannot be read: " in bad.reason


@pytest.mark.parametrize("package", ["pyarrow", "array_record"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "parquet" if package == "pyarrow" else package
    write_shard(tmp_path, kind, 0)
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    extra = re.escape(f"pip install 'tfaip_like[{kind}]'")
    with pytest.raises(UsageError, match=f"needs {package}; {extra}"):
        open_shards(tmp_path, kind)


# Settings.


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"balance": "sample"}, "balance sample"),
        ({"resample": Uniform(target="y")}, "resample"),
        ({"buckets": 3}, "buckets"),
    ],
)
def test_sampling_weights_and_length_buckets_are_rejected_for_shards(
    shards: Shards, settings: dict[str, Any], flag: str
) -> None:
    with pytest.raises(UsageError, match=f"--train.{flag}: .*Source reads its samples in blocks"):
        open_loader(shards, **settings)


def test_a_filter_selects_rows_of_shards(shards: Shards) -> None:
    loader = open_loader(shards, batch_size=21, filter=[ValueFilter(name="y", values=["3"])])
    x = loader.batch(0).inputs["x"][:, 0]
    assert sorted(x.tolist()) == list(range(3, 150, 7))


def test_windows_fill_the_shuffle_buffer(tmp_path: Path) -> None:
    write_shard(tmp_path, "parquet", 0)
    write_shard(tmp_path, "parquet", 1)
    source = ParquetSource(tmp_path / "*.parquet", {"x": ["a", "b"]}, {"y": "y"}, buffer_bytes=1000)
    assert len(source.block_ends) == 8
    assert blocks_per_window(source, 10, "train") == 2
    assert blocks_per_window(source, 7, "train") == 1
    assert 1 < blocks_per_window(source, None, "train") < 8
    with pytest.raises(UsageError, match=r"--train.shuffle_buffer 60 needs .* or set ParquetSource\(buffer_bytes="):
        blocks_per_window(source, 60, "train")
    source.max_window_bytes = None
    assert blocks_per_window(source, 10**9, "train") == 8
    assert blocks_per_window(source, None, "train") >= 8


# Order of shuffled blocks.


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    num_blocks=st.integers(1, 13),
    count=st.integers(1, 40),
    position=st.integers(0, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_windows_use_every_sample_once_per_pass_and_start_at_any_position(
    lengths: list[int], num_blocks: int, count: int, position: int, seed: int
) -> None:
    total = sum(lengths)

    def sampler() -> WindowSampler:
        return WindowSampler(IndexRange(total), seed, np.cumsum(lengths), num_blocks)

    passes = [sampler().rows_of_pass(number) for number in range(-(-(position + count) // total))]
    for rows in passes:
        assert sorted(rows[:, INDEX].tolist()) == list(range(total))
    np.testing.assert_array_equal(sampler().rows_at(position, count), np.concatenate(passes)[position:][:count])


def test_windows_hold_the_selected_samples_only() -> None:
    selected = np.array([1, 2, 3, 17, 18, 40])
    sampler = WindowSampler(selected, 0, np.array([5, 10, 20, 30, 41]), 2)
    rows = sampler.rows_of_pass(0)[:, INDEX]
    assert sorted(rows.tolist()) == selected.tolist()


def test_a_window_mixes_samples_of_its_blocks_only() -> None:
    sampler = WindowSampler(IndexRange(10_000), 3, np.arange(100, 10_001, 100), 5)
    blocks = sampler.rows_of_pass(0)[:, INDEX] // 100
    for begin in range(0, 10_000, 500):
        window = blocks[begin : begin + 500]
        assert len(set(window.tolist())) == 5
        assert len(set(window[:50].tolist())) == 5
    assert len(set((blocks[:500] // 20).tolist())) > 1


def test_the_memory_of_an_order_does_not_depend_on_the_number_of_samples() -> None:
    total, block = 10**9, 10**5
    tracemalloc.start()
    sampler = WindowSampler(IndexRange(total), 3, np.arange(block, total + 1, block), 2)
    rows = sampler.rows_at(total // 2, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(rows[:, INDEX].tolist())) == 100
    assert peak < 10_000_000
