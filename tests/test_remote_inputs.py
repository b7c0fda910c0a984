"""Inputs at URLs, on the real `memory://` of fsspec: lists, images, tables, shards and parameter files."""

from __future__ import annotations

import copy
import io
import os
import pickle
import posixpath
import tarfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import slow
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tfaip_like import Mode, Params, Sample, UsageError
from tfaip_like._export.bundled_files import check_bundled_files, copy_bundled_files
from tfaip_like._training.initialization.saved_weights import read_weights
from tfaip_like._utils import remote_paths
from tfaip_like._utils.remote_paths import RemotePath, is_url, join_location, local_copy, normalize_location
from tfaip_like.data import (
    ArrayRecordSource,
    HuggingFaceTokenizer,
    ImageFolderData,
    ParquetSource,
    Pipeline,
    TableSource,
    WebDatasetSource,
    find_files,
    read_image,
    to_path,
)
from tfaip_like.inference._input_files import read_samples
from tfaip_like.list_files import ListFileData, ListSource
from tfaip_like.params._base import FieldError
from tfaip_like.params._files import read_param_file
from tfaip_like.params._resources import check_resources
from tfaip_like.settings import Trainer

fsspec = pytest.importorskip("fsspec")

Store = Callable[[str, bytes], str]


@pytest.fixture
def store() -> Any:
    """Provide a function that stores a file in memory and returns its URL."""
    files = fsspec.filesystem("memory")

    def put(name: str, data: bytes) -> str:
        files.pipe(f"/bucket/{name}", data)
        return f"memory://bucket/{name}"

    yield put
    files.store.clear()
    files.pseudo_dirs.clear()
    remote_paths._copies.clear()


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (2, 1), value).save(stream, "PNG")
    return stream.getvalue()


class Lines(ListFileData):
    """Images with a text next to each."""

    def sample(self, file: Path) -> Sample:
        return Sample({"image": str(file)}, {"text": file.with_suffix(".txt").read_text()})


def test_lines_of_a_list_are_relative_to_its_url(store: Store) -> None:
    image = store("scans/1.png", png(7))
    store("scans/1.txt", b"one")
    entry = store("lists/train.lst", b"# comment\n../scans/1.png\n")
    source = ListSource(Lines(), entry, "--train.lists")
    sample = source.at(0)
    assert (sample.inputs["image"], sample.targets["text"]) == (image, "one")
    assert read_image(sample.inputs["image"]).tolist() == [[7, 7]]
    assert source.describe(0) == f"{image}, line 2 of {entry}"


def test_a_local_list_may_name_urls_and_a_remote_one_local_files(store: Store, tmp_path: Path) -> None:
    url = store("1.png", png(1))
    (tmp_path / "2.png").write_bytes(png(2))
    (tmp_path / "local.lst").write_text(f"{url}\n2.png\n")
    remote = store("remote.lst", f"{tmp_path / '2.png'}\n1.png\nfile://{tmp_path / '2.png'}\n".encode())
    local_files = list(ListSource(Lines(), str(tmp_path / "local.lst"), "--train.lists").files)
    remote_files = list(ListSource(Lines(), remote, "--train.lists").files)
    assert local_files == [url, str(tmp_path / "2.png")]
    assert remote_files == [str(tmp_path / "2.png"), url, str(tmp_path / "2.png")]


@pytest.mark.parametrize("entry", ["memory://bucket/scans", "memory://bucket/scans/*.png", "memory://bucket/**/*.png"])
def test_folders_and_glob_patterns_at_a_url_are_listed_in_order(store: Store, entry: str) -> None:
    urls = [store(f"scans/{name}.png", png(0)) for name in "ba"]
    store("scans/.hidden.txt", b"")
    assert list(ListSource(Lines(), entry, "--train.lists").files) == sorted(urls)


def test_image_folders_at_a_url_have_the_classes_of_their_subdirectories(store: Store) -> None:
    store("flowers/rose/1.png", png(1))
    store("flowers/daisy/2.png", png(2))
    data = ImageFolderData(folder=to_path("memory://bucket/flowers"), size=(1, 2), color="L")
    source: Any = data.source(Mode.TRAIN)
    assert source.classes == ["daisy", "rose"]
    assert [int(source.at(i).inputs["image"][0, 0]) for i in range(2)] == [2, 1]


def test_tables_of_all_formats_are_read_from_urls(store: Store) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.0, 2.0], "y": [3, 4]})
    arrays = io.BytesIO()
    np.savez(arrays, x=frame["x"], y=frame["y"])
    stored = {"a.csv": frame.to_csv(index=False).encode(), "a.npz": arrays.getvalue(), "a.parquet": frame.to_parquet()}
    for name, data in stored.items():
        store(f"tables/{name}", data)
        source = TableSource(find_files([f"memory://bucket/tables/{name}"], "--data.files"), {"x": "x"}, {"y": "y"})
        assert source.inputs["x"].tolist() == [1, 2]
        assert source.describe(1).startswith(f"memory://bucket/tables/{name}, ")


def test_samples_to_predict_are_read_from_urls(store: Store) -> None:
    url = store("samples.jsonl", b'{"x": [1, 2]}\n')
    (sample,) = read_samples([url], {}, "--predict.files")
    assert sample.inputs == {"x": [1, 2]}


def parse(record: bytes) -> Sample:
    return Sample({"x": np.frombuffer(record, np.uint8)})


def test_shards_of_all_formats_are_read_from_urls(store: Store, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    writers = pytest.importorskip("array_record.python.array_record_module")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for number in range(2):
            member = tarfile.TarInfo(f"{number}.cls")
            member.size = 1
            archive.addfile(member, io.BytesIO(str(number).encode()))
    tar = store("a.tar", stream.getvalue())
    for _ in range(2):  # its index is valid for another copy of the same file
        assert [WebDatasetSource(tar, {"x": "cls"}).at(i).inputs["x"] for i in range(2)] == [0, 1]
        local_copy(RemotePath(tar)).unlink()
    table = store("a.parquet", pandas.DataFrame({"x": [5, 6]}).to_parquet())
    assert ParquetSource(table, {"x": "x"}).at(1).inputs["x"] == 6
    writer = writers.ArrayRecordWriter(str(tmp_path / "a"), "group_size:1")
    writer.write(b"\1\2")
    writer.close()
    records = store("a.array_record", (tmp_path / "a").read_bytes())
    assert ArrayRecordSource(records, parse).at(0).inputs["x"].tolist() == [1, 2]


def _read_in_worker(url: str) -> list[list[int]]:
    return [list(row) for row in read_image(url).tolist()]


@pytest.mark.parametrize("method", ["fork", slow("forkserver")])
def test_processes_read_what_is_cached_without_a_connection(store: Store, method: str) -> None:
    """`memory://` is empty in another process: only the copies of a fork are known there."""
    url = store("1.png", png(9))
    read_image(url)
    with get_context(method).Pool(1) as pool:
        if method == "fork":
            assert pool.apply(_read_in_worker, (url,)) == [[9, 9]]
        else:
            with pytest.raises(UsageError, match="1.png: no such file or directory"):
                pool.apply(_read_in_worker, (url,))


@pytest.mark.parametrize("name", ["params.json", "params.yaml"])
def test_parameter_files_are_read_from_urls(store: Store, name: str) -> None:
    url = store(name, b'{"trainer": {"epochs": 3}}')
    assert read_param_file(to_path(url))["trainer"] in ({"epochs": 3}, {"epochs": "3"})
    with pytest.raises(UsageError, match="memory://bucket/x.json: no such file or directory"):
        read_param_file(to_path("memory://bucket/x.json"))


class Bundled(Params):
    """Parameters with a file."""

    codec: Path | None = None
    """File."""

    resources = ("codec",)


def test_a_path_parameter_keeps_its_url_in_json(store: Store) -> None:
    tree = Bundled.from_dict({"codec": "memory://bucket/codec.json"})
    assert isinstance(tree.codec, RemotePath)
    assert Bundled.from_json(tree.to_json()) == tree
    assert tree.to_dict()["codec"] == "memory://bucket/codec.json"
    assert Bundled.from_dict({"codec": "file:///tmp/x"}).codec == Path("/tmp/x")


def test_exports_contain_a_copy_of_a_file_at_a_url(store: Store, tmp_path: Path) -> None:
    from small import small

    store("vocabulary/tokens.json", b"{}")
    tokenizer = HuggingFaceTokenizer(file=to_path("memory://bucket/vocabulary/tokens.json"))
    pipeline = Pipeline(processors=[tokenizer])
    check_bundled_files(small(), pipeline)
    _, copied = copy_bundled_files(tmp_path, small(), pipeline)
    assert copied.processors[0].file == Path("resources/tokens.json")  # type: ignore[attr-defined]
    assert (tmp_path / "resources/tokens.json").read_text() == "{}"


def test_a_missing_file_is_an_error_that_names_flag_and_url(store: Store) -> None:
    store("1.png", png(0))
    for entry in ("memory://bucket/2.lst", "memory://bucket/*.jpg"):
        with pytest.raises(UsageError) as error:
            find_files([entry], "--train.lists")
        assert str(error.value) == f"--train.lists {entry}: no such file, or its bucket does not exist"
    with pytest.raises(UsageError, match="^memory://bucket/3.png: no such file or directory$"):
        read_image("memory://bucket/3.png")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense://x/y", "--train.lists nonsense://x/y: Protocol not known: nonsense"),
        ("https://127.0.0.1:1/x.csv", "--train.lists https://127.0.0.1:1/x.csv: cannot be reached: "),
        ("https://host/x.csv?token=1", "URLs with a query (?...) or fragment (#...) are not supported"),
        ("s3://bucket//x", "URLs with `//` or `::` inside are not supported"),
        ("s3://../x", "leads out of the bucket or host"),
    ],
)
def test_urls_that_cannot_be_read_are_usage_errors(url: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        find_files([url], "--train.lists")
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_a_missing_package_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(UsageError, match=r"s3://bucket/x: .*pip install 'tfaip_like\[remote\]'"):
        find_files(["s3://bucket/x"], "--train.lists")
    monkeypatch.setattr(remote_paths.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"need fsspec; pip install 'tfaip_like\[remote\]'"):
        find_files(["memory://bucket/x"], "--train.lists")


def test_a_resource_at_an_unknown_protocol_is_an_error_that_names_the_flag() -> None:
    with pytest.raises(UsageError, match=r"^--codec nonsense://x: Protocol not known: nonsense"):
        check_resources(Bundled(codec=to_path("nonsense://x")))


def test_a_warm_start_reads_weights_at_a_url(store: Store) -> None:
    stream = io.BytesIO()
    np.savez(stream, **{"dense/kernel": np.ones(2)})
    url = store("weights.npz", stream.getvalue())
    assert read_weights(to_path(url)).arrays["dense/kernel"].tolist() == [1, 1]
    with pytest.raises(UsageError, match="--warmstart.model memory://bucket/x.npz: no such file or directory"):
        read_weights(to_path("memory://bucket/x.npz"))


def test_outputs_at_a_url_are_rejected(store: Store) -> None:
    path = to_path(store("x.txt", b""))
    for write in (lambda: path.open("w"), path.mkdir, lambda: path.write_text("x"), path.unlink):
        with pytest.raises(UsageError, match="outputs must be on a file system"):
            write()
    with pytest.raises(FieldError, match=r"output_dir.*must be on a file system; --trainer.mirror_to copies"):
        Trainer(output_dir=to_path("s3://bucket/run")).check()


def test_a_changed_file_is_downloaded_by_the_next_process(store: Store) -> None:
    url = store("a.txt", b"old")
    assert to_path(url).read_text() == "old"
    store("a.txt", b"new")
    assert to_path(url).read_text() == "old"  # consistent within a training
    remote_paths._copies.clear()
    assert to_path(url).read_text() == "new"


def test_a_download_is_repeated_after_a_failure_and_leaves_no_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = store("a.txt", b"content")
    files, failures = type(fsspec.filesystem("memory")), [OSError("reset"), TimeoutError("slow")]
    get_file = files.get_file

    def fail(self: Any, key: str, target: str, **options: Any) -> None:
        if failures:
            Path(target).write_bytes(b"con")
            raise failures.pop()
        get_file(self, key, target, **options)

    monkeypatch.setattr(files, "get_file", fail)
    monkeypatch.setattr(remote_paths, "RETRY_DELAYS_S", (0, 0))
    assert to_path(url).read_text() == "content"
    assert os.listdir(local_copy(RemotePath(url)).parent) == ["a.txt"]


NAMES = st.text("abc.-_ é[1]", min_size=1, max_size=6).filter(lambda name: name.strip(".") == name)
PARTS = st.lists(NAMES, min_size=1, max_size=4)
PROTOCOLS = st.sampled_from(["s3", "gs", "memory", "https"])


@given(PROTOCOLS, PARTS, PARTS)
def test_paths_at_urls_behave_as_local_paths(protocol: str, parts: list[str], more: list[str]) -> None:
    url, local = f"{protocol}://{'/'.join(parts)}", Path("/", *parts)
    path = to_path(url)
    assert str(path) == url
    for one, other in ((path, local), (path.joinpath(*more), local.joinpath(*more)), ((path / "x").parent, local)):
        assert str(one) == f"{protocol}:/{other}"
        assert (one.name, one.suffix, one.stem) == (other.name, other.suffix, other.stem)
    assert str(path.with_suffix(".txt")) == f"{protocol}:/{local.with_suffix('.txt')}"
    assert pickle.loads(pickle.dumps(path)) == copy.deepcopy(path) == path == to_path(str(path))
    assert hash(to_path(url)) == hash(path)


@given(PROTOCOLS, PARTS, st.lists(st.one_of(NAMES, st.sampled_from([".", ".."])), min_size=1, max_size=5))
def test_relative_names_resolve_as_those_of_a_local_folder(protocol: str, parts: list[str], names: list[str]) -> None:
    expected = posixpath.normpath("/".join([*parts, *names]))
    folder = f"{protocol}://{'/'.join(parts)}"
    if expected.partition("/")[0] == "..":
        with pytest.raises(UsageError, match="leads out"):
            join_location(folder, "/".join(names))
    else:
        joined = join_location(folder, "/".join(names))
        assert joined == f"{protocol}://{'' if expected == '.' else expected}"
        assert normalize_location(joined) == joined


@given(st.text(max_size=20))
def test_only_texts_with_a_protocol_are_urls(text: str) -> None:
    if "://" not in text:
        assert not is_url(text)
        assert normalize_location(text) == text
        assert to_path(text) == Path(text)
