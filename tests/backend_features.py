"""Features of the trainer on each backend: the tests that show them, and what a backend refuses.

Write the table of the documentation: `python tests/backend_features.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "performance.md"
BEGIN, END = "<!-- features: begin -->", "<!-- features: end -->"
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


@dataclass(frozen=True)
class Refusal:
    """Flags that a backend refuses."""

    flags: str
    message: str
    """Part of the message."""


@dataclass(frozen=True)
class Feature:
    """Feature of the trainer."""

    name: str
    tests: tuple[str, ...] = ()
    """Arguments of pytest, which select tests that run on each backend."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """What a backend refuses before training, by backend."""
    note: Mapping[str, str] = field(default_factory=dict)
    """What the table says instead of "yes", by backend."""


FEATURES = (
    Feature("training, metrics, early stopping", ("tests/test_training.py", "tests/test_early_stopping.py")),
    Feature("metric objects, sample weights", ("tests/test_metric_objects.py",)),
    Feature("validation, also within epochs", ("tests/test_validation.py", "tests/test_validation_within_epochs.py")),
    Feature("load-and-validate", ("tests/test_lav.py",)),
    Feature("optimizers, clipping, weight decay, averaged weights", ("tests/test_optimizers.py",)),
    Feature("learning-rate schedules", ("tests/test_schedules.py", "tests/test_learning_rate_search.py")),
    Feature("gradient accumulation, mixed precision, `--trainer.on_nan`, gradient norm", ("tests/test_steps.py",)),
    Feature("exact resume", ("tests/test_resume.py", "tests/test_more_epochs.py")),
    Feature("streams, lists of files and groups of samples", ("tests/test_stream_training.py",)),
    Feature("warm start, freezing", ("tests/test_warm_start.py", "tests/test_freezing.py")),
    Feature("existing Keras models, LoRA", ("tests/test_keras_models.py",)),
    Feature("training steps of the user, named optimizers", ("tests/test_train_step.py",)),
    Feature("callbacks and loggers", ("tests/test_callbacks.py", "tests/test_loggers.py")),
    Feature(
        "exports: SavedModel",
        ("tests/test_exported.py", "tests/test_predictor.py"),
        note={"torch": "at the end; until then `best/` has `model.keras` only"},
    ),
    Feature("exports: ONNX, LiteRT", ("tests/test_exporters.py",)),
    Feature(
        "XLA",
        ("tests/test_length_padding.py",),
        {"torch": Refusal("--trainer.jit_compile true", "not supported by the torch backend")},
        {"tensorflow": "where batches have few shapes"},
    ),
    Feature(
        "several steps per execution",
        ("tests/test_feed.py",),
        note={"tensorflow": "up to 256", "jax": "up to 256", "torch": "1 by default"},
    ),
    Feature(
        "memory and FLOP/s of a step",
        ("tests/test_device_usage.py", "tests/test_out_of_memory.py"),
        note=dict.fromkeys(("tensorflow", "torch"), "memory estimated from the layers"),
    ),
    Feature("rematerialization", ("tests/test_rematerialization.py",), note={"torch": "not of recurrent dropout"}),
    Feature(
        "cache of compiled programs",
        ("tests/test_compilation_cache.py",),
        note={"tensorflow": "no", "torch": "no"},
    ),
    Feature(
        "several GPUs",
        ("tests/test_several_devices.py",),
        {backend: Refusal("--device.dist_strategy mirror", "backend") for backend in ("jax", "torch")},
    ),
    Feature(
        "profiler",
        ("tests/test_tensorboard.py -k profile",),
        {"torch": Refusal("--trainer.profile true", "not supported by the torch backend")},
    ),
)


def format_cell(feature: Feature, backend: str) -> str:
    """Return the cell of the table."""
    return "no" if backend in feature.refusals else feature.note.get(backend, "yes")


def format_table() -> str:
    """Return the table in Markdown."""
    rows = [("", *BACKENDS.values()), ("---",) * (1 + len(BACKENDS))]
    rows += [(feature.name, *(format_cell(feature, backend) for backend in BACKENDS)) for feature in FEATURES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def split_page() -> tuple[str, str, str]:
    """Return the documentation before, in and after the table."""
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    table, end, after = rest.partition(END)
    return before + begin, table.strip(), end + after


if __name__ == "__main__":
    page_before, _, page_after = split_page()
    PAGE.write_text(f"{page_before}\n{format_table()}\n{page_after}")
