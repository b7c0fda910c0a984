"""Names from files reach neither a terminal, nor a spreadsheet, nor a script of the cluster as anything but text."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import unicodedata
from pathlib import Path

import pytest
from batches import experiments, make_fake_batch
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from runs import rows, write_run

from tfaip_like import UsageError
from tfaip_like._utils.escaping import (
    escape_csv_cell,
    escape_json,
    escape_lines,
    escape_text,
    is_printable,
    unescape_csv_cell,
)
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import BadSample
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments.launchers import ResourceRequest, Slurm

HOSTILE = "\x1b]0;mine\x07\x1b[2Jrun\r\u202egnp\x9b31m\u2028"
TEXT = st.text(st.characters() | st.sampled_from("\x00\x1b\x7f\x9b\u202e\u2066\ufeff\n\r\t=+-@'\ud800"))


CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def has_control(text: str, allowed: str = "") -> bool:
    letters = [letter for letter in text if letter not in allowed]
    return any(unicodedata.category(c) in CATEGORIES or unicodedata.bidirectional(c) in DIRECTIONS for c in letters)


@given(TEXT)
def test_control_characters_are_escaped(text: str) -> None:
    assert not has_control(escape_text(text))
    assert not has_control(escape_lines(text), allowed="\n\t")
    assert is_printable(escape_text(text))
    assert escape_text(escape_text(text)) == escape_text(text)
    escape_text(text).encode("utf-8")


@given(TEXT)
def test_printable_text_is_unchanged(text: str) -> None:
    assert (escape_text(text) == text) == is_printable(text)


def test_bytes_of_a_name_that_are_not_utf8_are_shown_as_bytes() -> None:
    assert escape_lines(os.fsdecode(b"lat\xe9in")) == escape_text(os.fsdecode(b"lat\xe9in")) == "lat\\xe9in"


@pytest.mark.parametrize("text", ["größe 5 µm", "日本語", "שלום", "e\u0301", "👩\u200d🔬", "a\\x1b"])
def test_texts_of_all_languages_stay(text: str) -> None:
    assert escape_text(text) == text


@given(st.dictionaries(TEXT, TEXT))
def test_json_keeps_its_meaning(values: dict[str, str]) -> None:
    text = escape_json(json.dumps(values, ensure_ascii=False))
    assert not has_control(text, allowed="\n\t")
    assert json.loads(text) == values


@given(TEXT)
def test_no_cell_is_a_formula_and_its_text_comes_back(text: str) -> None:
    cell = escape_csv_cell(text)
    assert unescape_csv_cell(cell) == text
    try:
        float(cell)
    except ValueError:
        assert cell[:1] not in tuple("=+-@\t\r\n")


@pytest.mark.parametrize("number", ["-1.5", "+3", "-inf", "-1e-5", "0"])
def test_numbers_stay_numbers(number: str) -> None:
    assert escape_csv_cell(number) == number


def test_a_comparison_shows_hostile_names_as_text(tmp_path: Path, quick_run: Run) -> None:
    for number, name in enumerate((HOSTILE.replace("/", ""), "plain")):
        parameters = {"model.dropout": 0.1 * number, "trainer.description": f"=cmd|{HOSTILE}" if number else "+1"}
        write_run(tmp_path / "runs" / name, rows(2), parameters)
    done = quick_run("compare-runs", "runs", "--csv", "table.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not has_control(done.stdout, allowed="\n")
    assert "\\x1b[2J" in done.stdout
    with (tmp_path / "table.csv").open(newline="") as file:
        table = list(csv.reader(file))
    cells = [cell for row in table for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=@\t\r\n")]
    assert [cell for cell in cells if cell.startswith("'=cmd|")]


def test_a_table_of_batches_shows_hostile_texts_as_text(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  one: {}\n")
    index = json.loads(batch.index_file.read_text())
    index["description"] = HOSTILE
    index["runs"][0]["monitor"] = HOSTILE
    batch.index_file.write_text(json.dumps(index))
    (batch.path / "runs" / "one").mkdir()
    record = {"format_version": 1, "status": "failed", "error": f"{HOSTILE}\nrun", "host": HOSTILE}
    (batch.path / "runs" / "one" / "run.json").write_text(json.dumps(record))
    done = experiments(tmp_path, "show")
    assert done.returncode == 0, done.stderr
    assert not has_control(done.stdout, allowed="\n")


def test_an_error_shows_hostile_texts_as_text(tmp_path: Path, quick_run: Run) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trainer_params.json").write_text(json.dumps({"class": f"a:{HOSTILE}"}))
    for words in (["resume-training", "run"], ["resume-training", HOSTILE], ["train-scenario", HOSTILE]):
        done = quick_run(*words, cwd=tmp_path)
        assert done.returncode == 2
        assert not has_control(done.stderr, allowed="\n")


def test_bad_samples_are_listed_without_formulas_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "bad_samples.csv"
    places = ['=HYPERLINK("x")', "'=a", "-5", "@b", "plain"]
    BadSampleLog(file, 10).record([BadSample(number, place, "+reason") for number, place in enumerate(places)])
    for row in csv.reader(io.StringIO(file.read_text())):
        assert all(cell[:1] not in tuple("=+@") for cell in row)
    assert list(BadSampleLog(file, 10).samples) == places


# Scripts.


@pytest.mark.parametrize("name", ["a\ntouch ran", "a\x1b[2J", "a\rb"])
def test_the_name_of_a_batch_has_no_control_characters(tmp_path: Path, name: str) -> None:
    (tmp_path / "plan.yaml").write_text("scenario: experts\ndescription: d\nconfigurations: {one: {}}\n")
    done = experiments(tmp_path, "generate", "plan.yaml", "--name", name)
    assert done.returncode == 2
    assert "--name a\\x" in done.stderr
    assert not has_control(done.stderr, allowed="\n")


def test_no_line_of_a_script_for_the_cluster_comes_from_a_name(tmp_path: Path) -> None:
    batch = Batch(tmp_path / "a b'c $(touch ran)" / "version_1")
    request, slurm = ResourceRequest(time="1:00", memory="1G"), Slurm(partition="p q; touch ran")
    text = slurm.make_script(batch, str(tmp_path), [["one", "two; touch ran", "$(touch ran)", "a b"]], request)
    script = tmp_path / "script.sh"
    script.write_text(text.partition("# These runs belong")[0] + 'printf "%s|" "$batch" "${runs[@]}"\n')
    done = subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("|") == [str(batch.path), "one", "two; touch ran", "$(touch ran)", "a b", ""]
    assert not (tmp_path / "ran").exists()
    options = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert '#SBATCH --partition="p q; touch ran"' in options
    for hostile, folder in (
        (Slurm(), tmp_path / "a\ntouch ran"),
        (Slurm(partition="p\ntouch ran"), tmp_path),
        (Slurm(sbatch=["qos=long\ntouch ran"]), tmp_path),
    ):
        with pytest.raises(UsageError, match="must not contain control characters"):
            hostile.make_script(Batch(folder / "version_1"), str(tmp_path), [["one"]], request)


@pytest.mark.parametrize("name", ["../../outside", "a\nb", "", "..", "/etc"])
def test_a_batch_with_runs_outside_of_itself_is_rejected(tmp_path: Path, name: str) -> None:
    batch = make_fake_batch(tmp_path, "  one: {}\n")
    index = json.loads(batch.index_file.read_text())
    index["runs"][0]["name"] = name
    batch.index_file.write_text(json.dumps(index))
    with pytest.raises(UsageError, match=r"batch.json: runs.0: .* is not a valid directory name"):
        batch.read_index()
