"""The page of a run: what it says, and that it can be read in any state of a run."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import DESKTOP, PHONE, PROGRAM, Browser
from conftest import Run as Command
from hypothesis import given
from hypothesis import strategies as st
from runs import rows, write_run

from tfaip_like._report.charts import Line, Marker, is_logarithmic, line_chart
from tfaip_like._report.formatting import format_duration, format_flag_value, format_number
from tfaip_like._report.markup import element
from tfaip_like._report.run_page import render_report, write_report
from tfaip_like._report.summary_html import render_summary
from tfaip_like._report.summary_store import list_stored_summaries, store_summaries
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.output_dir_lock import lock_output_dir
from tfaip_like._runs.reader import flatten_params, read_run
from tfaip_like._utils.pixels import draw_confusion_matrix
from tfaip_like.loggers._summary_protos import to_summary_proto
from tfaip_like.summaries import ConfusionMatrix, Histogram, Image, PRCurve, Text

EVIL = "<script>alert('x')</script>\"'&"
VOID = {"br", "img", "meta"}


class Page(HTMLParser):
    """Reads a page strictly: every element is closed, in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    return Page(render_report(read_run(folder)))


def charts_of(text: str) -> list[dict[str, Any]]:
    """Return what the charts of a page draw."""
    return [json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', text)]


def points_of(chart: str) -> list[list[list[float | None]]]:
    """Return the points of each line of a chart; None is a gap."""
    return [line["points"] for line in charts_of(chart)[0]["lines"]]


# The page.


def test_a_page_shows_the_status_and_results_of_a_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rows(5), {"model.dropout": 0.5}, description="With more dropout.")
    (folder / "model.txt").write_text("Dense layers")
    page = page_of(folder)
    for expected in (
        "With more dropout.",
        "Status done",
        "Best val_accuracy",
        "in epoch 5",
        "1,437",
        "50,826",
        "model.dropout 0.5",
        "Dense layers",
        "train-scenario scenarios.tutorial",
        "python 3.11.7",
    ):
        assert expected in page.text
    assert charts_of(render_report(read_run(folder)))[0]["marks"] == [{"x": 5, "name": "best: 5"}]


def test_a_page_has_a_heading_a_language_and_names_for_its_charts_and_tables(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", rows(5)))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    charts = [plot for plot in page.all("div") if plot.get("class") == "plot"]
    assert charts
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in charts)
    assert "training from" in str(charts[0]["aria-label"])
    assert {cell["scope"] for cell in page.all("th")} == {"row", "col"}


def test_a_page_is_self_contained(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rows(5))
    store_summaries(folder / "summaries" / "val", {"picture": Image(np.eye(4))})
    text = render_report(read_run(folder))
    assert "http://" not in text
    assert "https://" not in text
    page = Page(text)
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.all("img"))
    assert not page.all("link")
    assert not [attributes for _, attributes in page.tags if attributes.get("src", "data:")[:5] != "data:"]  # type: ignore[index]
    policy = next(str(meta["content"]) for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")


def test_texts_of_the_user_are_escaped(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / EVIL.replace("/", ""),
        [{**row, EVIL: 1.0, f"val_{EVIL}": 2.0} for row in rows(3)],
        {f"model.{EVIL}": EVIL},
        description=EVIL,
        scenario=EVIL,
        status="failed",
        error=EVIL,
        command=["x", EVIL],
        host=EVIL,
        resumed=[{"after": EVIL, "changes": [EVIL]}],
        data={"train": 1, "val": 2, EVIL.replace("/", ""): 3},
    )
    (folder / "model.txt").write_text(EVIL)
    shown_by_val = {
        EVIL: Text(EVIL),
        f"table {EVIL}": Text.table([EVIL], [[EVIL]]),
        f"classes {EVIL}": ConfusionMatrix([0, 1], [1, 1], [EVIL, "b"]),
        f"picture {EVIL}": Image(np.eye(3)),
        f"bars {EVIL}": Histogram([1.0, 2.0]),
        f"curve {EVIL}": PRCurve([0, 1], [0.2, 0.8]),
    }
    store_summaries(folder / "summaries" / "val", shown_by_val)
    page = page_of(folder)
    assert [tag.get("type") for tag in page.all("script")][-2:] == ["application/gzip", None]
    assert {tag.get("type") for tag in page.all("script")[:-2]} == {"application/json"}
    assert page.text.count("alert('x')") > 12
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


@given(st.text(), st.text())
def test_an_element_is_read_back_as_it_was_meant(text: str, value: str) -> None:
    page = Page(element("p", text, title=value, data_x=value))
    assert page.tags[0][0] == "p"
    assert "".join(page.words) == text.replace("\r\n", "\n").replace("\r", "\n") or "\r" in text or "\0" in text
    assert set(page.tags[0][1]) == {"title", "data-x"}


# Runs in every state.


def test_a_running_run_is_distinguished_from_a_killed_one_by_its_lock(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rows(3), summary=False, status="running")
    assert read_run(folder).status == "killed"
    with lock_output_dir(OutputDir(folder), resume=True):
        assert read_run(folder).status == "running"
    assert read_run(folder).status == "killed"


def test_reading_a_run_does_not_lock_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", status="running")
    read_run(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_run_without_summary_has_its_best_epoch_from_the_history(tmp_path: Path) -> None:
    history = rows(4)
    history[1]["val_accuracy"], history[2]["val_accuracy"] = 2.0, math.nan
    best = read_run(write_run(tmp_path / "max", history, summary=False)).best
    assert best is not None
    assert (best.epoch, best.value) == (2, 2.0)
    least = {"monitor": "val_loss", "mode": "min"}
    best = read_run(write_run(tmp_path / "min", history, summary=False, best_by=least)).best
    assert best is not None
    assert best.epoch == 4


@pytest.mark.parametrize("status", ["running", "stopped", "failed", "done"])
@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_page_can_be_made_of_every_run(tmp_path: Path, status: str, epochs: int) -> None:
    folder = write_run(tmp_path / "run", rows(epochs), summary=False, status=status, error="stopped by SIGINT")
    page = page_of(folder)
    assert ("stopped by SIGINT" in page.text) == (status in ("stopped", "failed"))
    assert bool([plot for plot in page.all("div") if plot.get("class") == "plot"]) == (epochs > 0)


def test_a_page_can_be_made_of_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert "unknown" in page_of(tmp_path / "run").text


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "reported"),
    [
        (lambda folder: _cut(folder / "run.json"), "run.json, line "),
        (lambda folder: _cut(folder / "trainer_params.json"), "trainer_params.json, line "),
        (lambda folder: (folder / "summary.json").write_text("[]"), "summary.json, line 1: expected an object, got []"),
        (lambda folder: (folder / "summary.json").write_bytes(b"\xff"), "summary.json, line 1: not valid UTF-8"),
        (lambda folder: _cut(folder / "history.csv"), "history.csv, line 6: truncated line"),
        (
            lambda folder: (folder / "history.csv").write_text("loss\n1\n"),
            "history.csv, line 1: expected column names",
        ),
        (
            lambda folder: (folder / "run.json").write_text(
                '{"format_version": 1, "best_by": 3, "data": 4, "resumed": 5}'
            ),
            "run.json: best_by: expected an object, got 3",
        ),
    ],
)
def test_a_damaged_file_is_reported_and_the_rest_is_shown(
    tmp_path: Path, damage: Callable[[Path], object], reported: str
) -> None:
    folder = write_run(tmp_path / "run", rows(5))
    damage(folder)
    assert reported in page_of(folder).text


def test_a_page_of_many_epochs_stays_small(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rows(10_000))
    assert len(render_report(read_run(folder)).encode()) < 500_000


def test_a_page_of_many_metrics_and_a_large_network_stays_small(tmp_path: Path) -> None:
    history = [
        {
            "epoch": epoch,
            **{f"{kind}metric_{n}": math.sin(epoch * n) for n in range(100) for kind in ("", "val_", "lav_")},
        }
        for epoch in range(1, 201)
    ]
    folder = write_run(tmp_path / "run", history)
    (folder / "model.txt").write_text("a layer\n" * 50_000)
    page = render_report(read_run(folder))
    assert "... truncated, see model.txt" in page
    assert len(page.encode()) < 500_000


# Parameters and names.


def test_parameters_have_the_names_of_their_flags() -> None:
    tree = {
        "class": "m:S",
        "model": {"class": "m:A", "units": [1, 2], "weights": {}},
        "data": {"processors": [{"class": "m:Shift", "pixels": 2}]},
    }
    assert flatten_params(tree) == {
        "class": "m:S",
        "model": "A",
        "model.units": [1, 2],
        "model.weights": {},
        "data.processors.0": "Shift",
        "data.processors.0.pixels": 2,
    }


def test_curves_go_by_their_metric_and_the_kind_of_validation(tmp_path: Path) -> None:
    names = {"loss": 1.0, "only": 1.0, "val_loss": 2.0, "lav_a_b_loss": 3.0, "lav_a_loss": 4.0, "lav_a_b_extra": 5.0}
    data = {"train": 1, "val": 1, "lav_a": 1, "lav_a_b": 1}
    run = read_run(write_run(tmp_path / "run", [{"epoch": 1, **names, "lr": 1.0}], data=data))
    found = {name: {kind: curve[0][1] for kind, curve in kinds.items()} for name, kinds in run.curves.items()}
    # The only loss is the sum as well.
    assert found == {"loss": {"train": 1.0, "val": 2.0, "lav_a_b": 3.0, "lav_a": 4.0}, "extra": {"lav_a_b": 5.0}}


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.95555, "0.9556"), (12400.4, "12400"), (1.234e-5, "1.23e-5"), (1.5e9, "1.5e9"), (-0.02, "-0.02"),
     (math.nan, "NaN"), (-math.inf, "-∞"), (1e-4, "0.0001"), (9999999, "9999999"), (None, "–")],  # noqa: RUF001
)  # fmt: skip
def test_numbers_are_short(number: float | None, text: str) -> None:
    assert format_number(number) == text


@given(st.floats(-1e300, 1e300))
def test_short_numbers_are_near_the_number(number: float) -> None:
    assert float(format_number(number)) == pytest.approx(number, rel=6e-3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (9.96, "10 s"), (59.6, "1 min"), (185, "3 min 5 s"), (7800, "2 h 10 min"),
     (302400, "3 d 12 h")],
)  # fmt: skip
def test_times_are_formatted_in_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_values_of_parameters_are_shown_as_flag_values() -> None:
    assert [format_flag_value(value) for value in (None, True, [1, 2], [], {"a": 0.5}, 1e-4, "x")] == [
        "none", "true", "1 2", "'[]'", "a=0.5", "0.0001", "x"
    ]  # fmt: skip


# Charts.


@given(st.lists(st.floats(), min_size=1, max_size=40))
def test_any_values_make_a_chart(values: list[float]) -> None:
    Page(line_chart("a", [Line("x", [(float(i), y) for i, y in enumerate(values)])], [Marker(1.0, "here")]))


def test_values_over_many_decades_are_drawn_on_a_logarithmic_scale() -> None:
    assert is_logarithmic([0.001, 1.0])
    assert not is_logarithmic([0.02, 1.0])
    assert not is_logarithmic([0.0, 1.0])
    assert not is_logarithmic([math.nan, -1.0])


def drawn_pieces(points: list[tuple[float, float]]) -> int:
    return sum(y is None for _, y in points_of(line_chart("a", [Line("x", points)]))[0]) + 1


def test_a_line_has_gaps_where_epochs_are_missing_or_values_are_not_finite() -> None:
    assert drawn_pieces([(1, 1.0), (2, 2.0), (3, 3.0), (8, 1.0), (9, 2.0)]) == 2
    assert drawn_pieces([(1, 1.0), (2, 2.0), (3, math.nan), (4, 1.0), (5, math.inf), (6, 1.0), (7, 2.0)]) == 3
    assert drawn_pieces([(1, 1.0), (10, 2.0), (20, 3.0), (30, 1.0)]) == 1  # validated every ten epochs


def test_values_that_are_not_finite_are_counted_below() -> None:
    assert "2 non-finite values" in line_chart("a", [Line("x", [(1, math.nan), (2, math.inf)])])


def test_peaks_are_kept_when_points_are_thinned() -> None:
    points = [(float(x), math.sin(x / 500)) for x in range(10_000)]
    points[4321], points[8765] = (4321.0, 9.0), (8765.0, -9.0)
    (drawn,) = points_of(line_chart("a", [Line("x", points)]))
    assert len(drawn) <= 400
    assert {points[0], (4321.0, 9.0), (8765.0, -9.0)} <= {(x, y) for x, y in drawn}
    assert drawn[-1][0] == 9999.0
    assert drawn == sorted(drawn)


# What validations showed.


def test_summaries_are_stored_under_any_name_and_replaced_atomically(tmp_path: Path) -> None:
    names = ["plain", "with/slash", "..", ".hidden", "100%", "ä b", "C:\\x"]
    store_summaries(tmp_path / "val", {name: Text(name) for name in names})
    assert {one.name for one in list_stored_summaries(tmp_path / "val")} == set(names)
    assert all(one.path.parent == tmp_path / "val" for one in list_stored_summaries(tmp_path / "val"))
    store_summaries(tmp_path / "val", {"new": Text("x")})
    assert [one.name for one in list_stored_summaries(tmp_path / "val")] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["val"]


def test_a_confusion_matrix_is_a_table_with_the_most_frequent_mistakes(tmp_path: Path) -> None:
    matrix = ConfusionMatrix([0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 0, 2], ["cat", "dog", "bird"])
    store_summaries(tmp_path / "val", {"animals": matrix})
    page = Page(render_summary(list_stored_summaries(tmp_path / "val")[0]))
    assert "cat 1 2 0 0.33" in page.text
    assert "Most frequent mistakes: cat as dog (2 of 3), dog as cat (1 of 2)." in page.text


def test_a_confusion_matrix_of_many_classes_is_a_picture(tmp_path: Path) -> None:
    classes = np.arange(200)
    store_summaries(tmp_path / "val", {"many": ConfusionMatrix(classes, classes)})
    text = render_summary(list_stored_summaries(tmp_path / "val")[0])
    assert "data:image/png" in text
    assert len(text) < 200_000


def test_an_invalid_confusion_matrix_is_reported() -> None:
    for matrix, validation_error in (
        (ConfusionMatrix([0, 1], [0]), "is a ConfusionMatrix with targets of shape (2,) and predictions of shape (1,)"),
        (ConfusionMatrix([0.5], [0]), "is a ConfusionMatrix with targets of dtype float64; expected integers"),
        (ConfusionMatrix([0], [-1]), "is a ConfusionMatrix with predictions of class -1; classes must not be negative"),
        (ConfusionMatrix([0], [3], ["a"]), "is a ConfusionMatrix with predictions of class 3 but 1 name"),
    ):
        assert str(matrix.validation_error()).startswith(validation_error)
    assert ConfusionMatrix([], []).validation_error() is None
    assert ConfusionMatrix([], []).counts().shape == (1, 1)


def test_counts_are_drawn_with_their_numbers() -> None:
    picture = draw_confusion_matrix(np.array([[9, 1], [0, 10]]))
    assert picture.shape[0] == picture.shape[1]
    assert (picture[:, :, 2] > picture[:, :, 0]).any()  # blue
    assert (picture == 255).all(axis=2).any()  # a number in white, or a cell without anything
    assert (picture == 0).all(axis=2).any()  # a number in black


def test_a_precision_recall_curve_and_a_histogram_are_drawn(tmp_path: Path) -> None:
    store_summaries(
        tmp_path / "val", {"a": PRCurve([0, 1, 1], [0.1, 0.8, 0.9]), "b": Histogram([1, 2, 2, 3], buckets=3)}
    )
    curve, bars = (render_summary(one) for one in list_stored_summaries(tmp_path / "val"))
    assert "best F1 1: precision 1, recall 1" in curve
    assert charts_of(bars)[0]["counts"] == [1, 2, 1]
    assert charts_of(curve)[0]["shares"]


def test_texts_with_file_names_that_are_not_utf8_are_stored_and_logged(tmp_path: Path) -> None:
    text = Text.table(["file"], [[os.fsdecode(b"lat\xe9in.png")]])
    store_summaries(tmp_path / "val", {"worst": text})
    assert "lat\\xe9in.png" in (tmp_path / "val" / "worst.md").read_text()
    assert b"lat\\xe9in.png" in to_summary_proto({}, {"worst": text}).SerializeToString()


def test_a_table_of_markdown_is_a_table(tmp_path: Path) -> None:
    store_summaries(tmp_path / "val", {"t": Text("Some words.\n\n" + Text.table(["a", "b"], [[1, "x|y"]]).markdown)})
    page = Page(render_summary(list_stored_summaries(tmp_path / "val")[0]))
    assert len(page.all("table")) == 1
    assert "Some words." in page.text
    assert "x|y" in page.text


@pytest.mark.parametrize("name", ["a.json", "a.png", "a.md"])
def test_unreadable_summaries_are_reported_in_their_place(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'\xff{"kind": ')
    assert f"a cannot be shown: {name} is corrupt" in Page(render_summary(list_stored_summaries(tmp_path)[0])).text


def test_a_large_picture_does_not_make_the_page_large(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1000, 1000, 3)).astype(np.uint8)
    store_summaries(tmp_path / "val", {"noise": Image(noise)})
    assert "too large to embed" in render_summary(list_stored_summaries(tmp_path / "val")[0])


# In a browser.


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium")
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_the_page_without_complaint_and_without_the_network(tmp_path: Path, dark: bool) -> None:
    folder = write_run(tmp_path / "run", rows(40), {"model.dropout": 0.5}, description=EVIL)
    store_summaries(folder / "summaries" / "val", {"confusion": ConfusionMatrix(np.arange(20), np.arange(20) // 2)})
    write_report(OutputDir(folder))
    with Browser(tmp_path / "browser") as browser:
        for size in (PHONE, DESKTOP):
            browser.open(folder / "report.html", size, dark)
            assert browser.value("document.documentElement.scrollWidth") == size[0]
            wait_for_charts(browser)
            assert browser.value("charts.size") == browser.value("document.querySelectorAll('figure.chart').length") > 5
            assert browser.value("[...charts.values()].every(({ drawn }) => drawn.getWidth() > 150)")
        title, value = browser.value(HOVERED).split("\n")[:2]
        assert title == "epoch 18"
        assert value.startswith("training: 0.31")
        paper = browser.value("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(18, 22, 29)" if dark else "rgb(255, 255, 255)")
        browser.pdf(tmp_path / "page.pdf")
        assert browser.messages == []
        assert {request.split(":")[0] for request in browser.requests} <= {"file", "data"}


HOVERED = """(() => {
  const { drawn, values } = [...charts.values()][0];
  const points = values.lines.map((line) => ({ seriesName: line.name, value: line.points[17] }));
  return drawn.getOption().tooltip[0].formatter(points);
})()"""


def wait_for_charts(browser: Browser) -> None:
    """Wait until the library is loaded, and have all charts drawn, also those out of sight."""
    while not browser.value("document.documentElement.dataset.charts"):
        pass
    browser.value("document.querySelectorAll('figure.chart').forEach((f) => charts.has(f) || draw(f))")


# A training writes it.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import run_command

    folder = tmp_path_factory.mktemp("trained") / "run"
    flags = ["--trainer.epochs", "3", "--trainer.lav_every_n", "1", "--trainer.jit_compile", "false"]
    done = run_command("train-scenario", "scenarios.tutorial", "--trainer.output_dir", folder, *flags)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_training_leaves_its_report(trained: Path) -> None:
    text = (trained / "report.html").read_text()
    page = Page(text)
    assert "Status done" in page.text
    for expected in (
        "training 1,437",
        "validation 360",
        "LAV 360",
        "50,826",
        "trainer.lav_every_n 1",
        "classify (Dense)",
    ):
        assert expected in page.text
    assert len(page.all("img")) == 2  # the worst mistakes, of validation and of LAV


def test_a_training_keeps_what_its_validations_showed(trained: Path) -> None:
    for kind in ("val", "lav"):
        names = {path.name for path in (trained / "summaries" / kind).iterdir()}
        assert names == {"confusion.json", "is_it_an_8.json", "worst_mistakes.png"}
    confusion = json.loads((trained / "summaries" / "val" / "confusion.json").read_text())
    assert np.sum(confusion["counts"]) == 360


def test_a_training_records_what_only_it_knows(trained: Path) -> None:
    record = json.loads((trained / "run.json").read_text())
    assert record["data"] == {"train": 1437, "val": 360, "lav": 360}
    assert record["weights"] == 50826
    assert record["best_by"] == {"monitor": "val_accuracy", "mode": "max"}
    network = (trained / "model.txt").read_text()
    assert "Total params: 50,826" in network
    assert re.search(r"weights by path:\n\ngraph/dense/kernel +\(\d+, \d+\)\n", network)


@pytest.mark.slow
def test_a_failed_training_is_shown_in_its_report(tmp_path: Path, run: Command) -> None:
    (tmp_path / "nan.py").write_text(
        "import sys\nsys.path.insert(0, 'TESTS')\nfrom small import *\n".replace("TESTS", str(Path(__file__).parent))
        + "class Nan(Small):\n    data: Data = Points(nan_at=3)\n"
    )
    done = run("train-scenario", "nan.py:Nan", "--trainer.output_dir", "run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert "Status failed" in page.text
    assert "NaN" in page.text


def test_a_report_that_cannot_be_written_is_reported_once_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tfaip_like._training.reporter import Reporter, write_final_report

    folder = OutputDir(write_run(tmp_path / "run", rows(3)))
    folder.report.mkdir()
    caplog.set_level("WARNING", "tfaip_like")
    Reporter(folder).on_epoch_end({"val_": {"note": Text("kept all the same")}})
    write_final_report(folder)
    assert [record.message for record in caplog.records] == [f"failed to write {folder.report}: Is a directory"]
    assert (folder.summaries / "val" / "note.md").read_text() == "kept all the same"


def test_a_full_disk_error_is_propagated_to_the_caller(tmp_path: Path) -> None:
    from tfaip_like._training.reporter import best_effort

    def write(folder: OutputDir) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        best_effort(OutputDir(tmp_path), write, raise_disk_full=True)
    best_effort(OutputDir(tmp_path), write)


def test_after_short_epochs_a_report_is_not_written_each_time_but_nothing_is_lost(tmp_path: Path) -> None:
    from tfaip_like._training.reporter import Reporter

    folder = OutputDir(write_run(tmp_path / "run", rows(3)))
    reporter = Reporter(folder)
    for number in range(3):
        reporter.on_epoch_end({"val_": {"note": Text(str(number))}})
    assert folder.report.exists()
    assert (folder.summaries / "val" / "note.md").read_text() == "0"
    reporter.close()
    assert (folder.summaries / "val" / "note.md").read_text() == "2"
