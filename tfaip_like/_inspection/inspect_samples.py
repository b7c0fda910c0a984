"""Inspection of samples before and after each processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tfaip_like._inspection.opening import open_data_loader
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.pixels import encode_png, make_image_grid, to_rgb
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.sample_reader import Row, SampleReader
from tfaip_like.data._loader.sampler import INDEX
from tfaip_like.data._loader.streams import Bookmark, Stream
from tfaip_like.data._processors import StreamProcessor
from tfaip_like.data._sample import Sample
from tfaip_like.params import Params
from tfaip_like.scenario import Scenario

MIN_IMAGE_SIDE, MAX_IMAGE_SIDE = 6, 2000
"""Minimum and maximum height and width in pixels of arrays that are drawn as images."""


class InspectSamples(Params):
    """Settings of inspect-samples."""

    mode: Literal["train", "val"] = "train"
    """Data to read: training or validation."""

    count: int = 8
    """Number of samples."""

    output_dir: Path = Path("samples")
    """Output directory of the images."""

    def check(self) -> None:
        self.require(self.count >= 1, "count", "must be at least 1")


Stage = tuple[str, list[Sample | None]]


def inspect_samples(scenario: Scenario, settings: InspectSamples) -> str:
    """Write an image grid of each image array after each processor, and return a description of all arrays.

    Args:
        scenario: Scenario whose data is inspected.
        settings: Settings of inspect-samples.
    """
    with open_data_loader(scenario, settings.mode, "--inspect.mode") as batches:
        stages = _collect_stages(batches, settings.count)
    lines = []
    for number, (title, samples) in enumerate(stages):
        lines.append(title)
        kept_samples = [sample for sample in samples if sample is not None]
        if len(kept_samples) < len(samples):
            lines.append(f"  {len(samples) - len(kept_samples)} of {len(samples)} were dropped")
        for kind in ("inputs", "targets"):
            names = dict.fromkeys(name for sample in kept_samples for name in getattr(sample, kind))
            for name in names:
                arrays = [np.asarray(getattr(s, kind)[name]) for s in kept_samples if name in getattr(s, kind)]
                lines.append(f"  {kind[:-1]} {name}: {describe_arrays(arrays)}")
                if are_images(arrays):
                    file = settings.output_dir / f"{number}-{title.split()[-1]}-{name}.png"
                    write_image_grid(arrays, file)
                    lines.append(f"    {file}")
    return "\n".join(lines)


def _collect_stages(batches: DataLoader, count: int) -> list[Stage]:
    """Return the samples as read, and after each processor."""
    samples = batches.samples
    if batches.stream is not None:
        return _collect_stream_stages(batches.stream, count)
    assert batches.order is not None
    rows: list[Row] = [
        (row[0], row[1], row[2]) for row in batches.order.rows_at(0, min(count, len(batches.order))).tolist()
    ]
    current: list[Sample | None] = [samples.read_source(index) for _, index, _ in rows]
    stages: list[Stage] = [("as read", current)]
    for number, processor in enumerate(samples.processors):
        assert not isinstance(processor, StreamProcessor)
        current = [_apply_processor(samples, sample, row, number) for sample, row in zip(current, rows, strict=True)]
        stages.append((f"after {type(processor).__name__}", current))
    return stages


def _collect_stream_stages(stream: Stream, count: int) -> list[Stage]:
    """Return the samples as read, and after each StreamProcessor with the processors that follow it."""
    samples, work = stream.samples, stream.work()
    chain = stream.chain(Bookmark(), is_endless=False)
    stages: list[Stage] = []
    for group in chain.tasks():
        assert group is not None  # each result is taken before the next task
        if not stages:
            indices = [row[INDEX] for row in group.rows]
            values = group.samples if group.samples is not None else map(samples.read_source, indices)
            raw = list(map(samples.as_sample, values, indices))
            stages.append(("as read", [*raw[:count]]))
        result = work(group)
        if result.level == len(stages) - 1 and samples.processors:
            stages.append((f"after {samples.stages[work.levels[result.level].stop]}", [*result.samples[:count]]))
        if len(stages) > len(work.levels):
            break
        chain.add_result(result)
    return stages


def _apply_processor(samples: SampleReader, sample: Sample | None, row: Row, number: int) -> Sample | None:
    return None if sample is None else samples.apply_processors(sample, row, number, number + 1)


def describe_arrays(arrays: list[npt.NDArray[Any]]) -> str:
    """Return a description of the shapes, dtype and values of arrays.

    Example:
        >>> describe_arrays([np.array([1.0, 3.0])])
        'float64 (2,), from 1 to 3, mean 2, std 1'
    """
    shapes = list(dict.fromkeys(str(array.shape) for array in arrays))
    shape = shapes[0] if len(shapes) == 1 else f"{shapes[0]} ... {shapes[-1]}"
    text = f"{arrays[0].dtype} {shape}"
    flat = np.concatenate([array.ravel() for array in arrays])
    if not np.issubdtype(flat.dtype, np.number) and flat.dtype != bool:
        return f"{text}, {', '.join(repr(value) for value in flat[:3].tolist())} ..."
    if not flat.size:
        return f"{text}, empty"
    if arrays[0].ndim == 0:
        return f"{text}, values {' '.join(f'{value:.6g}' for value in flat[:16].tolist())}"
    bad = int((~np.isfinite(flat.astype(np.float64))).sum())
    finite = flat.astype(np.float64)[np.isfinite(flat.astype(np.float64))]
    if not finite.size:
        return f"{text}, all NaN or infinity"
    numbers = f"from {finite.min():.4g} to {finite.max():.4g}, mean {finite.mean():.4g}, std {finite.std():.4g}"
    return f"{text}, {numbers}" + (f", {bad} NaN or infinity" if bad else "")


def are_images(arrays: list[npt.NDArray[Any]]) -> bool:
    """Return whether all arrays look like images: (height, width) or (height, width, channels), 1, 3 or 4 channels."""

    def is_image(array: npt.NDArray[Any]) -> bool:
        has_image_axes = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
        return (
            has_image_axes
            and np.issubdtype(array.dtype, np.number)
            and all(MIN_IMAGE_SIDE <= n <= MAX_IMAGE_SIDE for n in array.shape[:2])
        )

    return bool(arrays) and all(map(is_image, arrays))


def write_image_grid(arrays: list[npt.NDArray[Any]], file: Path) -> None:
    """Write a grid of images as a PNG file; floats are scaled to the common range from black to white.

    Args:
        arrays: Images of shape (height, width) or (height, width, channels).
        file: PNG file.

    Raises:
        UsageError: If the file cannot be written.
    """
    grid = make_image_grid([to_rgb(array, *_value_range(arrays)) for array in arrays])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(grid))
    except OSError as error:
        raise UsageError(f"--inspect.output_dir {file.parent}: {error.strerror or error}") from error


def _value_range(arrays: list[npt.NDArray[Any]]) -> tuple[float, float]:
    if all(array.dtype == np.uint8 for array in arrays):
        return 0.0, 255.0
    low, high = min(float(np.nanmin(a)) for a in arrays), max(float(np.nanmax(a)) for a in arrays)
    return low, high if high > low else low + 1
