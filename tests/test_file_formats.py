"""Versions of the files that we write and read back."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_file_formats import PACKAGE, RECORD, all_formats, record_formats
from small import small

from tfaip_like import UsageError, train
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import RUN_INFO_FORMAT
from tfaip_like._training.checkpointing.checkpoints import CHECKSUMS, list_checkpoints, load_latest_valid
from tfaip_like._training.checkpointing.state_schema import STATE_FORMAT, CallbackState, SavedState
from tfaip_like._utils.file_formats import VERSION, WRITER, FileFormat, FormatVersionError
from tfaip_like._utils.json_files import Json, format_json
from tfaip_like._version import __version__
from tfaip_like.params._files import read_param_file

OLD_FILES = Path(__file__).parent / "old_files"
WRITERS = {"_utils/file_formats.py", "_cli/result_table.py"}
"""Modules that write JSON without a format: all formats, and a table for other programs, which we do not read."""


@dataclasses.dataclass(frozen=True)
class Note:
    """A file whose format has changed twice."""

    words: list[str]
    seconds: float


def _split_words(values: dict[str, Any]) -> dict[str, Json]:
    return {**values, "words": values["words"].split()}


def _rename_when(values: dict[str, Json]) -> dict[str, Json]:
    values["seconds"] = values.pop("when")
    return values


NOTES = FileFormat("note", Note, version=3, migrations={1: _split_words, 2: _rename_when}, advice="Write it again.")


# Migrations.


def test_an_old_file_is_migrated_step_by_step() -> None:
    assert NOTES.read(OLD_FILES / "note_1.json") == Note(["a", "b"], 3.0)
    second = {VERSION: 2, "words": ["a"], "when": 1}
    assert NOTES.decode(second, "note.json") == Note(["a"], 1.0)
    assert second == {VERSION: 2, "words": ["a"], "when": 1}, "the argument is unchanged"


def test_a_file_is_written_in_the_current_version(tmp_path: Path) -> None:
    NOTES.write(tmp_path / "note.json", Note(["a"], 0.5))
    content = json.loads((tmp_path / "note.json").read_text())
    assert content == {VERSION: 3, WRITER: __version__, "words": ["a"], "seconds": 0.5}
    assert NOTES.read(tmp_path / "note.json") == Note(["a"], 0.5)


@pytest.mark.parametrize("values", [{"words": 3, "when": 1}, {"when": 1}, {}])
def test_a_damaged_old_file_that_cannot_be_migrated_is_an_error_that_names_the_step(values: dict[str, Json]) -> None:
    with pytest.raises(UsageError, match=r"^note.json: damaged: cannot be converted from version 1 to 2"):
        NOTES.decode({VERSION: 1, **values}, "note.json")


def test_each_version_needs_a_migration_to_the_next() -> None:
    with pytest.raises(ValueError, match="'note': no migration from version 2"):
        FileFormat("note", Note, version=3, migrations={1: _split_words})


# Versions that cannot be read.

WITHOUT_VERSION = {
    "missing": ({}, "note.json: format_version: missing key; the note was written before files had versions, or ed"),
    "text": ({VERSION: "2"}, 'note.json: format_version: expected an integer, got "2"'),
    "null": ({VERSION: None}, "note.json: format_version: expected an integer, got null"),
    "boolean": ({VERSION: True}, "note.json: format_version: expected an integer, got true"),
    "fraction": ({VERSION: 1.5}, "note.json: format_version: expected an integer, got 1.5"),
    "list": ({VERSION: [1]}, "note.json: format_version: expected an integer, got [1]"),
    "zero": ({VERSION: 0}, "note.json: format_version: must be at least 1, got 0"),
    "negative": ({VERSION: -1}, "note.json: format_version: must be at least 1, got -1"),
    "misspelt": ({"format_versoin": 1}, "note.json: format_versoin: unknown key; did you mean format_version?"),
    "writer": ({VERSION: 3, WRITER: 1}, "note.json: written_by: expected a string, got 1"),
}


@pytest.mark.parametrize("name", WITHOUT_VERSION)
def test_a_file_without_a_valid_version_is_an_error_with_advice(name: str) -> None:
    header, message = WITHOUT_VERSION[name]
    with pytest.raises(FormatVersionError) as caught:
        NOTES.decode({**header, "words": [], "seconds": 1}, "note.json")
    first, second = str(caught.value).splitlines()
    assert first.startswith(message)
    assert second == "Write it again."


@pytest.mark.parametrize(("header", "writer"), [({WRITER: "7.1.0"}, "tfaip_like 7.1.0"), ({}, "a newer tfaip_like")])
def test_a_newer_file_is_an_error_that_names_the_version_to_install(header: dict[str, Json], writer: str) -> None:
    with pytest.raises(FormatVersionError) as caught:
        NOTES.decode({VERSION: 4, **header, "unknown": 1}, "note.json")
    assert str(caught.value).splitlines() == [
        f"note.json: format_version: 4 is too new, written by {writer}; this is tfaip_like {__version__} "
        "with version 3 of a note.",
        "Update tfaip_like, or use the one that wrote it.",
    ]


def test_a_file_older_than_the_oldest_readable_version_is_an_error_with_advice() -> None:
    notes = dataclasses.replace(NOTES, oldest=2, migrations={2: _rename_when})
    assert notes.decode({VERSION: 2, "words": ["a"], "when": 1}, "note.json") == Note(["a"], 1.0)
    with pytest.raises(FormatVersionError) as caught:
        notes.decode({VERSION: 1, WRITER: "0.1.0", "words": "a", "when": 1}, "note.json")
    assert str(caught.value).splitlines() == [
        f"note.json: format_version: 1 is too old, written by tfaip_like 0.1.0; this is tfaip_like {__version__} "
        "with version 3 of a note.",
        "Write it again.",
    ]


HANDWRITTEN = {"a.json": '{"model": {}}', "b.yaml": "model: {}", "c.yaml": "format_version: 1\nmodel: {}"}


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_a_handwritten_parameter_file_needs_no_version(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(HANDWRITTEN[name])
    assert read_param_file(tmp_path / name) == {"model": {}}


@pytest.mark.parametrize(("name", "text"), [("a.json", '{"format_version": 9}'), ("b.yaml", "format_version: 9")])
def test_a_newer_parameter_file_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FormatVersionError, match="9 is too new"):
        read_param_file(tmp_path / name)


# All formats.


def test_the_fields_of_a_format_change_only_with_its_version() -> None:
    recorded, now = json.loads(RECORD.read_text()), record_formats()
    hint = "; then record it: python tests/record_file_formats.py"
    for name in {**recorded, **now}:
        assert name in now, f"format {name!r} was removed or renamed: its files cannot be read any more{hint}"
        assert name in recorded, f"format {name!r} is new{hint}"
        if recorded[name]["version"] == now[name]["version"]:
            assert recorded[name]["types"] == now[name]["types"], (
                f"fields of {name!r} changed: raise its version, register a migration and test it{hint}"
            )
        assert recorded[name]["version"] == now[name]["version"], f"the version of {name!r} was raised{hint}"


def test_every_json_file_is_written_in_a_versioned_format() -> None:
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        called = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "write_json" not in called or name in WRITERS, f"{name}: write with a FileFormat instead of write_json"


def test_formats_have_unique_names() -> None:
    assert {"checkpoint", "run.json", "parameter file", "batch.json"} <= set(all_formats())


# Checkpoints.


def values_of(tp: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a type of the checkpoint."""
    origin, arguments = get_origin(tp), get_args(tp)
    if dataclasses.is_dataclass(tp):
        hints = get_type_hints(tp, include_extras=True)
        return st.builds(tp, **{name: values_of(hint) for name, hint in hints.items()})
    if origin is Annotated:
        return st.integers(1, 2**40) if arguments[0] is int else st.floats(0, 1e18)
    if origin in (Union, UnionType):
        return st.one_of([values_of(part) for part in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        parts = [values_of(part) for part in arguments if part is not Ellipsis]
        return st.lists(parts[0], max_size=3).map(tuple) if len(parts) < len(arguments) else st.tuples(*parts)
    if origin is list:
        return st.lists(values_of(arguments[0]), max_size=3)
    if origin in (dict, Mapping):
        return st.dictionaries(texts, values_of(arguments[1]), max_size=3)
    plain = {
        int: st.integers(-(2**40), 2**40),
        float: st.floats(),
        str: texts,
        bool: st.booleans(),
        NoneType: st.none(),
    }
    return plain.get(tp, json_values)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@given(values_of(SavedState))
def test_the_state_of_a_checkpoint_is_read_as_it_was_written(state: SavedState) -> None:
    again = STATE_FORMAT.decode(json.loads(format_json(STATE_FORMAT.encode(state))), "state.json")
    assert format_json(STATE_FORMAT.encode(again)) == format_json(STATE_FORMAT.encode(state))
    assert type(again) is SavedState
    assert all(type(one) is CallbackState for one in again.callbacks)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of one epoch."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(small(folder, trainer={"epochs": 1}))
    return folder


def set_version(run: Path, version: object, is_intact: bool) -> Path:
    """Change the version of a run's last checkpoint, or remove it (None)."""
    file = list_checkpoints(OutputDir(run).checkpoints)[-1].path / "state.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, VERSION: version} if version is not None else {"history": []}))
    if is_intact:
        checksums = json.loads((file.parent / CHECKSUMS).read_text())
        (file.parent / CHECKSUMS).write_text(
            json.dumps({**checksums, "state.json": hashlib.sha256(file.read_bytes()).hexdigest()})
        )
    return file


@pytest.mark.parametrize("version", [None, 1, 99])
def test_a_checkpoint_of_another_version_is_not_skipped_as_if_it_were_corrupt(
    trained: Path, tmp_path: Path, version: int | None
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    file = set_version(tmp_path / "run", version, is_intact=True)
    with pytest.raises(FormatVersionError) as caught:
        load_latest_valid(OutputDir(tmp_path / "run").checkpoints)
    assert f"{file}: {VERSION}: " in str(caught.value)
    assert "the one that wrote it" in str(caught.value) or "--warmstart.model" in str(caught.value)


def test_a_corrupt_checkpoint_that_looks_newer_is_skipped(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = OutputDir(shutil.copytree(trained, tmp_path / "run")).checkpoints
    shutil.copytree(checkpoints / "epoch_0001", checkpoints / "epoch_0002")
    set_version(tmp_path / "run", 99, is_intact=False)
    loaded = load_latest_valid(checkpoints)
    assert loaded is not None
    assert loaded[0].path.name == "epoch_0001"
    assert "epoch_0002/state.json: checksum mismatch" in caplog.text


def test_each_json_file_of_a_run_says_its_version(trained: Path) -> None:
    files = {path.relative_to(trained).as_posix(): path for path in trained.rglob("*.json")}
    files = {name: path for name, path in files.items() if not name.startswith(("summaries", "tensorboard"))}
    assert len(files) > 10
    versions = {path.name: json.loads(path.read_text())[VERSION] for path in files.values()}
    assert versions.pop("state.json") == STATE_FORMAT.version
    assert versions.pop("run.json") == RUN_INFO_FORMAT.version
    assert set(versions.values()) == {1}
