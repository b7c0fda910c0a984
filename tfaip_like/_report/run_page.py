"""Report of a run (`report.html`)."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tfaip_like._report.charts import MAX_POINTS_PER_LINE, Line, Marker, line_chart, points_per_line
from tfaip_like._report.formatting import NO_VALUE, format_duration, format_flag_value, format_number
from tfaip_like._report.markup import Child, Markup, element, join_markup, make_collapsible, page, section, table
from tfaip_like._report.summary_html import render_summary
from tfaip_like._report.summary_store import list_stored_summaries
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import Run, read_run
from tfaip_like._runs.run_files import format_epoch, format_row_place
from tfaip_like._utils.errors import pluralize
from tfaip_like._utils.files import atomic_write_text

NUM_LINE_STYLES = 8
"""Number of line styles in the style sheet."""
MAX_POINTS_PER_PAGE = 3600
"""Maximum number of points of all curves, which keeps the page without images below 500 kB."""
MAX_MODEL_SUMMARY_CHARS = 12_000
PROGRESS_COLUMNS = {
    "lr": "learning rate",
    "samples_per_second": "samples per second",
    "input_bound": "input-bound share (waiting for data)",
    "gradient_norm": "gradient norm",
    "memory_mb": "memory in MB",
    "gpu_memory_mb": "peak GPU memory in MB",
    "mfu": "share of the peak FLOP/s (MFU)",
}
KIND_NAMES = {
    "train": "training",
    "val": "validation",
    "lav": "LAV",
    "compare": "reference run",
    "data_train": "training data of the first epoch",
    "data_val": "validation data",
}


def write_report(folder: OutputDir) -> None:
    """Write the report of a run from the files in its run directory."""
    atomic_write_text(folder.report, render_report(read_run(folder.path)))


def render_report(run: Run) -> str:
    """Return the report of a run as HTML."""
    body = (
        _header(run),
        section("Curves", element("div", *_curves(run), class_="charts") if run.history else None),
        section("Outcome", _outcome(run)),
        *_summaries(run),
        section("Parameters", *_parameters(run)),
        section("Data and model", *_data_and_model(run)),
        section("Learning rate", _range_test(run)),
        section("Progress", element("div", *_progress_charts(run), class_="charts small") if run.history else None),
        section("Provenance", *_provenance(run)),
        element("footer", f"Written by tfaip_like, {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}."),
    )
    return page(f"{run.name} ({run.status})", *body, library="echarts.common")


def kind_name(kind: str) -> str:
    """Return the display name of a kind of validation, such as `LAV of LIST`."""
    return KIND_NAMES.get(kind) or f"LAV of {kind.removeprefix('lav_')}"


def _header(run: Run) -> Markup:
    """Return name, status and key facts of a run."""
    description = run.info.get("description")
    error = run.info.get("error") if run.status in ("failed", "stopped") else None
    return element(
        "header",
        element("p", run.scenario, class_="kicker"),
        element("h1", run.name),
        element("p", description, class_="lead") if description else None,
        element(
            "dl",
            *(element("div", element("dt", name), element("dd", *value)) for name, value in _facts(run)),
            class_="facts",
        ),
        element("p", error, class_="problem") if error else None,
        _resume_hint(run),
        element("p", "\n".join(run.problems), class_="problem") if run.problems else None,
    )


def _resume_hint(run: Run) -> Markup | None:
    if run.status not in ("stopped", "killed"):
        return None
    command = shlex.join(["resume-training", str(run.output_dir.path)])
    return element("p", "Resume with ", element("code", command), ".")


def _facts(run: Run) -> Iterator[tuple[str, Sequence[Child]]]:
    reason = run.summary.get("stopped_early") if run.status == "done" else None
    yield (
        "Status",
        (
            element("span", run.status, class_=f"status {run.status}"),
            element("small", f"stopped early: {reason}") if reason else None,
        ),
    )
    if (best := run.best) is not None and best.epoch is not None:
        yield f"Best {best.monitor}", (format_number(best.value), element("small", f"in {_place(run, best.epoch)}"))
    planned = run.parameters.get("trainer.epochs")
    of_all = element("small", f"of {planned}") if planned is not None else None
    yield "Epochs", (format_epoch(run.history[-1]["epoch"] if run.history else 0), of_all)
    if run.seconds is not None:
        each = element(
            "small", f"{format_duration(run.seconds / run.history[-1]['epoch'])} per epoch, without validation"
        )
        yield "Training time", (format_duration(run.seconds), each)
    if (samples := (run.info.get("data") or {}).get("train")) is not None:
        yield "Training samples", (f"{samples:,}",)
    if (weights := run.info.get("weights")) is not None:
        yield "Weights", (f"{weights:,}",)


def _place(run: Run, epoch: float) -> str:
    return format_row_place(run.row_at_epoch(epoch) or {"epoch": epoch})


def _curves(run: Run) -> Iterator[Markup]:
    """Yield a chart for each metric: the loss, the monitored metric, all others."""
    best = run.best
    marks = (
        [Marker(best.epoch, f"best: {format_epoch(best.epoch)}")] if best is not None and best.epoch is not None else []
    )
    monitored = best.monitor if best is not None else ""
    names = sorted(run.curves, key=lambda name: (name != "loss", not monitored.endswith(name)))
    kinds = ["train", "val", *(kind for kind in dict.fromkeys(run.prefixes.values()) if kind != "val")]
    most = points_per_line(sum(map(len, run.curves.values())), MAX_POINTS_PER_PAGE)
    for name in names:
        curves = run.curves[name]
        lines = [
            Line(kind_name(kind), curves[kind], number % NUM_LINE_STYLES)
            for number, kind in enumerate(kinds)
            if kind in curves
        ]
        yield line_chart(name, lines, marks, max_points=most)


def _progress_charts(run: Run) -> Iterator[Markup]:
    for column, title in PROGRESS_COLUMNS.items():
        if values := run.column_values(column):
            yield line_chart(title, [Line(title, values)], max_points=MAX_POINTS_PER_LINE // 2)


def _range_test(run: Run) -> Markup | None:
    """Return the chart of the range test that found the learning rate."""
    test = run.info.get("learning_rate_test")
    if test is None:
        return None
    points = [(math.log10(rate), loss) for rate, loss in zip(test["rates"], test["losses"], strict=True) if rate > 0]
    rate = float(run.parameters["learning_rate.lr"])
    chart = line_chart(
        "Loss of the range test",
        [Line("smoothed loss", points)],
        [Marker(math.log10(rate), f"used: {rate:g}")],
        x_name="learning rate (power of ten)",
    )
    return element("div", chart, class_="charts")


def _outcome(run: Run) -> Markup | None:
    """Return all metrics of the best and of the last epoch."""
    if not run.history:
        return None
    last = run.history[-1]
    best_epoch = run.best.epoch if run.best is not None else None
    rows_by_title = {f"best {_place(run, best_epoch)}": run.row_at_epoch(best_epoch)} if best_epoch is not None else {}
    if best_epoch != last["epoch"]:
        rows_by_title[f"last {format_row_place(last)}"] = last
    else:
        rows_by_title = {f"{format_row_place(last)} (best and last)": last}
    kinds = {
        "train": "",
        **{kind: prefix for prefix, kind in sorted(run.prefixes.items(), key=lambda pair: pair[1] != "val")},
    }
    kinds = {kind: prefix for kind, prefix in kinds.items() if any(kind in curves for curves in run.curves.values())}
    tables = []
    for title, row in rows_by_title.items():
        rows = [
            [name, *(format_number(row.get(f"{prefix}{name}")) for prefix in kinds.values())] for name in run.curves
        ]
        tables.append(table(["", *map(kind_name, kinds)], rows, class_="numbers", caption=title))
    return element("div", *tables, class_="shown")


def _summaries(run: Run) -> Iterator[Markup]:
    """Yield the summaries of the latest validations; only the first kind is expanded."""
    folder = run.output_dir.summaries
    kinds = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    blocks: list[Markup] = []
    for kind in sorted(kinds, key=lambda kind: (kind != "val", kind)):
        summaries = element("div", *map(render_summary, list_stored_summaries(folder / kind)), class_="shown")
        rows = [row for row in run.history if any(column.startswith(f"{kind}_") for column in row)]
        title = f"Latest {kind_name(kind)}" + (f", after {format_row_place(rows[-1])}" if rows else "")
        blocks.append(
            make_collapsible(title, summaries) if blocks else join_markup(element("p", title, class_="note"), summaries)
        )
    yield section("Summaries", *blocks)


def _parameters(run: Run) -> Iterator[Markup]:
    # The description is shown at the top of the page.
    changed = {name: value for name, value in run.non_default_params.items() if name != "trainer.description"}
    if changed:
        yield table(["non-default", ""], list(changed.items()), class_="values")
    elif run.parameters:
        yield element("p", "All parameters have their defaults.")
    if run.parameters:
        rows = [[name, format_flag_value(value)] for name, value in run.parameters.items() if name != "class"]
        yield make_collapsible(
            f"All {len(rows)} parameters", table(None, rows, class_="values", marked=run.non_default_params)
        )


def _data_and_model(run: Run) -> Iterator[Markup]:
    sizes = run.info.get("data") or {}
    if sizes:
        fingerprints = run.info.get("data_fingerprints") or {}
        hashes = {kind: fingerprints[kind]["sha256"][:16] if kind in fingerprints else "" for kind in sizes}
        rows = [
            [kind_name(kind), "a stream" if size is None else f"{size:,}", hashes[kind]] for kind, size in sizes.items()
        ]
        yield table(["", "samples", "hash of some of them"], rows, class_="numbers")
    try:
        model = run.output_dir.model.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    if len(model) > MAX_MODEL_SUMMARY_CHARS:
        model = f"{model[:MAX_MODEL_SUMMARY_CHARS]}\n... truncated, see {run.output_dir.model.name}"
    yield make_collapsible("Layers of the network", element("pre", model, tabindex="0"))


def _provenance(run: Run) -> Iterator[Markup]:
    record = run.info
    if not record:
        return
    commit = record.get("git_commit")
    diff = ", with uncommitted changes (git.diff)" if record.get("git_diff") else ""
    facts = {
        "command": format_command(record.get("command")),
        "working directory": record.get("folder"),
        "scenario": record.get("scenario_file"),
        "git commit": f"{commit}{diff}" if commit else None,
        "random seed": record.get("random_seed"),
        "versions": ", ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items()),
        "backend": record.get("backend"),
        "host": record.get("host"),
        "CPU cores": record.get("processors"),
        "user": record.get("user"),
        "started": record.get("started"),
        "ended": record.get("ended"),
    }
    rows = [[name, str(value)] for name, value in facts.items() if value not in (None, "")]
    yield table(None, rows, class_="values")
    if resumes := record.get("resumed"):
        yield element("h3", f"Resumed {pluralize(len(resumes), 'time')}")
        yield table(
            ["at", "after", "host", "changes"],
            [
                [r.get("started"), r.get("after"), r.get("host"), "\n".join(r.get("changes") or ()) or NO_VALUE]
                for r in resumes
            ],
        )


def format_command(command: Any) -> str | None:
    """Return a recorded command line in shell syntax, or None if it is missing."""
    if not isinstance(command, list) or not command:
        return None
    program, *arguments = map(str, command)
    name = Path(program).name
    name = name.removesuffix(".py").replace("_", "-") if name.endswith(".py") and "cli" in Path(program).parts else name
    return shlex.join([name, *arguments])
