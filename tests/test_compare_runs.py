"""`compare-runs`: what differs between runs, in which order, and every mistake in one line."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import DESKTOP, PHONE, PROGRAM, Browser
from hypothesis import given
from hypothesis import strategies as st
from runs import rows, write_run
from test_report import EVIL, Page, charts_of, wait_for_charts

from tfaip_like._cli.command import EXIT_OK, EXIT_USAGE, run_command
from tfaip_like._cli.compare_runs import compare_runs
from tfaip_like._report.comparison import Comparison
from tfaip_like._report.comparison_page import render_comparison
from tfaip_like._report.parallel_coordinates import Axis, association, short_names
from tfaip_like._report.run_page import write_report
from tfaip_like._report.text_table import format_table
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import read_runs


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a folder with three runs below it; the second is the best, the third failed immediately."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "a" / "run_2", rows(4, rate=0.1), {"model.dropout": 0.5, "trainer.output_dir": "x"})
    write_run(tmp_path / "runs" / "a" / "run_10", rows(4, rate=0.5), {"learning_rate.lr": 0.01})
    write_run(tmp_path / "runs" / "b", (), {"model.graph": {"class": "m:CNN"}}, status="failed", error="no memory")
    return tmp_path / "runs"


def compare_paths(*paths: Path, sort: str | None = None) -> Comparison:
    return Comparison(read_runs(paths)).sorted_by(sort)


def test_runs_are_found_below_folders_each_once_in_the_order_of_their_numbers(three: Path) -> None:
    runs = read_runs([three / "a", three, three / "a" / "run_2"])
    assert [run.name for run in runs] == ["run_2", "run_10", "b"]


def test_the_best_run_comes_first_and_one_without_a_value_last(three: Path) -> None:
    comparison = compare_paths(three)
    assert comparison.names == ["a/run_10", "a/run_2", "b"]


def test_the_best_run_is_determined_by_the_monitor_of_the_model(tmp_path: Path) -> None:
    least = {"monitor": "val_loss", "mode": "min"}
    for name, rate in (("slow", 0.1), ("fast", 0.5)):
        write_run(tmp_path / name, rows(4, rate), best_by=least, summary=False)
    assert compare_paths(tmp_path).names == ["fast", "slow"]


def test_only_parameters_that_differ_are_columns(three: Path) -> None:
    names = [column.name for column in compare_paths(three).differing_params]
    assert names == ["model.dropout", "learning_rate.lr", "model.graph", "model.graph.units"] or set(names) == {
        "model.dropout",
        "learning_rate.lr",
        "model.graph",
        "model.graph.units",
    }


def test_runs_of_different_scenarios_can_be_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "one", rows(2))
    other = write_run(tmp_path / "two", rows(2), best_by={"monitor": "val_error", "mode": "min"})
    (other / "trainer_params.json").write_text('{"class": "other:Scenario", "depth": 3}')
    comparison = compare_paths(tmp_path)
    columns = {column.name: column for column in comparison.columns}
    assert columns["depth"].values == [None, 3] or columns["depth"].values == [3, None]
    assert "monitor" in comparison.table()


def test_the_table_shows_status_results_and_differences(three: Path) -> None:
    header, *lines = compare_paths(three).table().splitlines()
    assert header.split()[:6] == ["run", "status", "epochs", "best", "epoch", "best"]
    assert lines[0].startswith("a/run_10  done         4")
    assert "10 s" in lines[0]
    assert lines[2].startswith("b         failed       0")


@pytest.mark.parametrize(
    ("column", "first"),
    [("model.dropout", "a/run_10"), ("--learning_rate.lr", "a/run_2"), ("val_loss", "a/run_10"), ("status", "a/run_10"),
     ("run", "a/run_10"), ("best", "a/run_10")],
)  # fmt: skip
def test_any_column_can_be_sorted_by(three: Path, column: str, first: str) -> None:
    assert compare_paths(three, sort=column).names[0] == first


def test_csv_has_all_columns_and_whole_numbers(three: Path) -> None:
    first, *_ = csv.DictReader(io.StringIO(compare_paths(three).csv()))
    assert first["run"] == "a/run_10"
    assert first["monitor"] == "val_accuracy"
    assert float(first["best"]) == max(row["val_accuracy"] for row in rows(4, rate=0.5))
    assert first["learning_rate.lr"] == "0.01"


def test_json_has_an_object_per_run(three: Path) -> None:
    first, _, last = json.loads(compare_paths(three).json())
    assert first["parameters"]["learning_rate.lr"] == 0.01
    assert first["best_epoch"] == 4
    assert (last["status"], last["best"]) == ("failed", None)


# A table for a terminal.


TITLES = ["run", "loss", "a long name of a column"]
COLUMNS = [["one", "two"], ["0.5", "12"], ["x", "y" * 60]]


def test_a_table_has_one_line_per_run_if_it_fits() -> None:
    assert format_table(TITLES[:2], COLUMNS[:2], [False, True], 80) == "run  loss\none   0.5\ntwo    12"


def test_a_table_that_is_too_wide_is_transposed() -> None:
    titles, columns = [f"column_{number}" for number in range(12)], [["1", "2"]] * 12
    assert format_table(titles, columns, [True] * 12, 40).splitlines()[0] == "column_0   1  2"


def test_columns_of_a_table_too_wide_even_when_transposed_are_omitted_and_named() -> None:
    titles, columns = [f"column_{number}" for number in range(12)], [["1"] * 50] * 12
    lines = format_table(titles, columns, [True] * 12, 40).splitlines()
    assert max(map(len, lines[:-1])) <= 40
    assert lines[-1].startswith("(8 more columns in --csv, --html or a wider terminal: column_4, ")


@given(
    st.lists(st.lists(st.text(max_size=50), min_size=3, max_size=3), min_size=1, max_size=8),
    st.one_of(st.none(), st.integers(1, 100)),
)
def test_any_cells_make_a_table(columns: list[list[str]], width: int | None) -> None:
    format_table(["t"] * len(columns), columns, [False] * len(columns), width)


# The page.


def test_the_page_has_the_table_the_curves_and_links_to_reports(three: Path) -> None:
    write_report(OutputDir(three / "a" / "run_2"))
    page = Page(render_comparison(compare_paths(three), three / "page.html"))
    assert "3 runs compared" in page.text
    assert [link["href"] for link in page.all("a")] == ["a/run_2/report.html"]
    labels = [str(plot["aria-label"]) for plot in page.all("div") if plot.get("class") == "plot"]
    assert labels[0].startswith("val_accuracy by epoch: a/run_2 from")
    assert "2 runs by" not in labels  # too few for parallel coordinates


def test_many_runs_are_grey_behind_the_best_ones(tmp_path: Path) -> None:
    for number in range(100):
        changes = {
            "model.dropout": number / 200,
            "learning_rate.lr": 10 ** (-1 - number / 25),
            "model.kind": "ab"[number % 2],
        }
        write_run(tmp_path / f"run_{number}", rows(30, rate=0.1 + number / 300), changes)
    text = render_comparison(compare_paths(tmp_path))
    page = Page(text)
    assert "In grey: 92 other runs." in page.text
    legend = [item for item in page.all("svg") if item.get("class") == "swatch"]
    assert len(legend) == 8
    parallel, curves = charts_of(text)[:2]
    assert [axis["whole_name"] for axis in parallel["axes"]] == [
        "best val_accuracy", "model.dropout", "learning_rate.lr", "model.kind"
    ]  # fmt: skip
    assert parallel["axes"][3]["choices"] == ["a", "b"]
    assert parallel["axes"][2]["log"]
    assert len(parallel["runs"]) == 100
    assert [run["rank"] for run in parallel["runs"]] == sorted(run["rank"] for run in parallel["runs"])
    assert sum(line["look"] is None for line in curves["lines"]) == 92


@pytest.mark.slow
def test_a_page_of_400_runs_with_many_parameters_and_metrics_stays_below_two_megabytes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(400):
        history = [
            {"epoch": epoch, **{f"{kind}m{n}": float(random.random()) for n in range(12) for kind in ("", "val_")}}
            for epoch in range(1, 21)
        ]
        write_run(tmp_path / f"run_{number}", history, {f"model.p{n}": float(random.random()) for n in range(30)},
                  best_by={"monitor": "val_m0", "mode": "min"})  # fmt: skip
    text = render_comparison(compare_paths(tmp_path))
    assert "Omitted to limit the size of the page: val_m" in text
    assert len(text.encode()) < 2_000_000


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 4], 1.0),
        ([4, 3, 2, 1], 1.0),
        (["a", "a", "b", "b"], 0.89),
        ([1, 1, 1, 1], 0.0),
        ([None, None, None, 2], 0.0),
        (["a", "b", "b", "a"], 0.0),
    ],
)
def test_parameters_are_ranked_by_their_correlation_with_the_result(values: list[Any], expected: float) -> None:
    outcome = Axis("best", [0.1, 0.2, 0.3, 0.4])
    assert association(Axis("p", values), outcome) == pytest.approx(expected, abs=0.01)


def test_axes_are_named_by_the_shortest_end_that_distinguishes_them() -> None:
    axes = [Axis(name, []) for name in ("best", "model.units", "model.head.units", "train.batch_size")]
    assert short_names(axes) == ["best", "model.units", "head.units", "batch_size"]


def test_texts_from_runs_are_escaped(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        changes = {f"model.{EVIL}": f"{EVIL}{number}", "a": number, "b": number**2}
        write_run(tmp_path / f"{number}{EVIL.replace('/', '')}", rows(3), changes, scenario=EVIL)
    page = Page(render_comparison(compare_paths(tmp_path)))
    assert {tag.get("type") for tag in page.all("script")[:-2]} == {"application/json"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium")
def test_a_browser_shows_the_page_and_sorts_its_table(tmp_path: Path) -> None:
    for number in range(13):
        changes = {"model.dropout": number / 20, "learning_rate.lr": 0.1 / (number + 1)}
        write_run(tmp_path / f"run_{number}", rows(10, rate=0.1 + number / 30), changes)
    (tmp_path / "page.html").write_text(render_comparison(compare_paths(tmp_path)))
    with Browser(tmp_path / "browser") as browser:
        for size in (PHONE, DESKTOP):
            browser.open(tmp_path / "page.html", size)
            assert browser.value("document.documentElement.scrollWidth") == size[0]
        first = "document.querySelector('.sortable tbody th').textContent"
        assert browser.value(first) == "run_12"
        find = "[...document.querySelectorAll('thead button')].find(b => b.textContent == 'model.dropout')"
        browser.value(f"{find}.click()")
        assert browser.value(first) == "run_0"
        browser.value(
            "Object.assign(document.querySelector('.filter'), { value: 'run_7' }).dispatchEvent(new Event('input'))"
        )
        assert browser.value("document.querySelectorAll('tbody tr:not(.filtered)').length") == 1
        wait_for_charts(browser)
        select = "charts.get(document.querySelector('.parallel')).drawn"
        interval = "intervals: [[0.9, 1]]"
        browser.value(f"{select}.dispatchAction({{ type: 'axisAreaSelect', parallelAxisIndex: 0, {interval} }})")
        assert 0 < browser.value("document.querySelectorAll('tbody tr.unselected').length") < 13
        browser.value("light('3', 'highlight')")
        assert browser.messages == []
        assert {request.split(":")[0] for request in browser.requests} <= {"file"}


# The command.


def command(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run_command("compare-runs", compare_runs, [str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_page_links_to_a_report_whose_name_is_not_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"latin \xe9")
    run = write_run(tmp_path / "runs" / name, rows(3))
    write_report(OutputDir(run))
    assert command("runs", "--html", "t.html", capsys=capsys)[0] == EXIT_OK
    assert b'href="runs/latin%20%E9/report.html"' in (tmp_path / "t.html").read_bytes()


def test_the_command_names_damaged_lines_that_it_leaves_out(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = three / "a" / "run_2" / "history.csv"
    history.write_text(history.read_text().replace("\n1,", "\none,", 1))
    code, out, err = command(three, "--json", capsys=capsys)
    assert code == EXIT_OK
    assert f"{history}, line 2: " in err
    assert err.count("; skipping it") == 1
    assert [run["epochs"] for run in json.loads(out) if run["run"] == "a/run_2"] == [4]


def test_the_command_prints_the_table_and_writes_files(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command(three, "--csv", "t.csv", "--html", "t.html", capsys=capsys)
    assert (code, err) == (EXIT_OK, "")
    assert out.startswith("run       status")
    assert Path("t.csv").read_text().startswith("run,status,epochs")
    assert "3 runs compared" in Path("t.html").read_text()


def test_the_command_prints_json(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(three, "--json", capsys=capsys)
    assert code == EXIT_OK
    assert len(json.loads(out)) == 3


def test_flags_are_completed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--complete", "runs", "--so", capsys=capsys)[1].split() == ["--sort"]
    assert command("--complete", "runs", capsys=capsys)[1].split() == []
    assert "compare-runs" in command("--completion", "bash", capsys=capsys)[1]


def test_help_does_not_import_a_framework() -> None:
    code = (
        "import sys; from tfaip_like._cli.compare_runs import compare_runs; compare_runs(['--help']);"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--sort" in done.stdout


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no run": ([], "missing argument DIR: run directories, or directories with runs below them. "
               "usage: compare-runs DIR ... [--FLAG VALUE ...]"),
    "no such folder": (["nowhere"], "nowhere: no such directory"),
    "a file": (["file"], "file: not a directory; pass a run directory, or a directory with runs below it"),
    "no run in it": (["empty"], "empty: no run directory found in or below it (run directories contain a run.json)"),
    "unknown flag": (["runs", "--srot", "best"], "--srot: unknown flag; did you mean --sort?"),
    "unknown column": (["runs", "--sort", "dropout"], "--sort dropout: no such column; did you mean "
                       "model.dropout?"),
    "equal column": (["runs", "--sort", "trainer.epochs"], "--sort trainer.epochs: this parameter is the same in all "
                     "runs"),
    "one file for two": (["runs", "--csv", "x", "--html", "x"], "--csv x: is the same file as --html"),
    "file that cannot be written": (["runs", "--csv", "no/x.csv"], "--csv no/x.csv: cannot be written: No such file or "
                                    "directory"),
    "folder as a file": (["runs", "--html", "empty"], "--html empty: cannot be written: Is a directory"),
    "words for help": (["--help", "sort", "csv"], "--help takes one word to search for"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_compare_runs_reports_usage_errors_in_one_line(
    three: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words, message = MISTAKES[name]
    Path("file").touch()
    Path("empty").mkdir()
    code, _, err = command(*words, capsys=capsys)
    assert (code, err) == (EXIT_USAGE, f"compare-runs: {message}\n")
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_output_file_is_reported(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("closed").mkdir(mode=0o500)
    assert command(three, "--csv", "closed/x", capsys=capsys)[0] == EXIT_USAGE
