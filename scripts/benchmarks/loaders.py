"""Benchmark of data loaders: ours and six others run the same Python function with two workers.

A sample is made from its index alone, by one of four tasks:

    python   a pure-Python loop (arithmetic, strings, a dictionary), about 1.5 ms
    numpy    shifts, Fourier transforms and sorts of a 64x64 array, about 1.5 ms
    jpeg     read, decode and resize a JPEG file of 500x375 pixels with Pillow, about 3 ms
    trivial  scale 32x32 values, a few microseconds

Each side delivers the same samples in the same order in batches of equal size, as NumPy arrays; nothing trains on
them, the consumer only adds them up. The sides:

    loop      a plain loop in one process, `np.stack` for the batches
    torch     torch.utils.data.DataLoader, 2 workers, its defaults otherwise
    grain     bare Grain, `mp_prefetch` with 2 processes, its defaults otherwise
    tfdata    tf.data with tf.py_function, 2 parallel calls, prefetching
    spdl      an SPDL pipeline whose 2 threads make whole batches
    spdl-mp   SPDL's DataLoader with 2 processes, its defaults otherwise
    ours      tfaip_like with `num_processes=2`, its defaults otherwise

Each run is a separate process that ends after some seconds, the sides in turn, in the opposite order every other round.
Before that each side runs once for a few samples, not counted, so that byte code and file cache are warm; a side that
fails there (because it is not installed, for instance) is left out, with a note. The first samples of each run must be
exactly those of the loop. Shown are medians of the samples per second, relative to the loop (more is faster): from the
start of the process, with imports and the start of the workers, and in the second half of the run, without them. The
last table counts the CPU time of all processes, for busy machines: twice its ratio is what two idle cores allow.

    python scripts/benchmarks/loaders.py [--seconds S] [--rounds N] [--sides ...] [--tasks ...] [--batches ...]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import psutil

Array = np.ndarray[Any, Any]
Batches = Iterable[tuple[Array, Array]]

WORKERS, NUM_CHECKED_SAMPLES, NUM_IMAGES = 2, 512, 64
CLOCK_TICK_S = 0.01
IMAGES_VARIABLE = "LOADERS_IMAGES"
"""Environment variable with the directory of the JPEG files."""
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "TFAIP_LOG_LEVEL": "error"}


def python_work(index: int) -> Array:
    """Return a value computed in pure Python: frequencies of leading digit pairs of random numbers."""
    value, numbers, counts = index, [], dict[str, int]()
    for _ in range(2048):
        value = (value * 1664525 + 1013904223) & 0xFFFFFFFF
        key = f"{value:08x}"[:2]
        counts[key] = counts.get(key, 0) + 1
        numbers.append(counts[key] + (value >> 24))
    return np.array([sum(numbers[i : i + 2]) / 2 for i in range(0, 2048, 2)], "float32").reshape(32, 32)


def numpy_work(index: int) -> Array:
    """Return a value computed with NumPy: blurred random images, their spectra and sorted rows."""
    image = np.random.default_rng(index).random((64, 64))
    for _ in range(6):
        blurred = sum(np.roll(image, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)) / 9
        spectrum = np.abs(np.fft.fft2(blurred))
        image = np.sort(image, axis=1) + spectrum / spectrum.max()
        image /= image.max()
    return np.round(image[::2, ::2] * 256).astype("float32")  # whole numbers, whose sums are exact


def jpeg_work(index: int) -> Array:
    """Return an image, decoded and resized."""
    from PIL import Image

    with Image.open(f"{os.environ[IMAGES_VARIABLE]}/{index % NUM_IMAGES}.jpg") as image:
        return np.asarray(image.convert("RGB").resize((160, 160), Image.Resampling.BILINEAR))


IMAGES = np.arange(64 * 32 * 32, dtype="float32").reshape(64, 32, 32) % 251


def trivial_work(index: int) -> Array:
    """Return scaled values."""
    return IMAGES[index % len(IMAGES)] * np.float32(0.5)


TASKS: dict[str, Callable[[int], Array]] = {
    "python": python_work,
    "numpy": numpy_work,
    "jpeg": jpeg_work,
    "trivial": trivial_work,
}


def make(task: str, index: int) -> tuple[Array, np.int32]:
    """Return the sample of an index: values, and the index."""
    return TASKS[task](index), np.int32(index)


def make_batch(task: str, indices: Iterable[int]) -> tuple[Array, Array]:
    """Return a batch."""
    xs, ys = zip(*[make(task, index) for index in indices], strict=True)
    return np.stack(xs), np.stack(ys)


def loop(task: str, batch: int, samples: int) -> Batches:
    """Yield batches, made one by one in this process."""
    for start in range(0, samples, batch):
        yield make_batch(task, range(start, start + batch))


def tfdata(task: str, batch: int, samples: int) -> Batches:
    """Yield batches of tf.data with the work in Python functions."""
    import tensorflow as tf

    example = make(task, 0)[0]

    def load(index: Any) -> Any:
        x, y = tf.py_function(lambda i: make(task, int(i)), [index], [example.dtype, tf.int32])
        return tf.ensure_shape(x, example.shape), tf.ensure_shape(y, ())

    dataset = tf.data.Dataset.range(samples).map(load, num_parallel_calls=WORKERS)
    yield from dataset.batch(batch).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


class Samples:
    """Samples of a task, as a map-style dataset."""

    def __init__(self, task: str, samples: int):
        self.task, self.samples = task, samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Array, np.int32]:
        return make(self.task, index)


def torch(task: str, batch: int, samples: int) -> Batches:
    """Yield batches of PyTorch's DataLoader."""
    from torch.utils.data import DataLoader

    for x, y in DataLoader(Samples(task, samples), batch_size=batch, num_workers=WORKERS):  # type: ignore[arg-type]
        yield x.numpy(), y.numpy()


def grain(task: str, batch: int, samples: int) -> Batches:
    """Yield batches of Grain, used as in its documentation."""
    import grain  # type: ignore[import-untyped]
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # Grain asks for its flags and fails in scripts that do not parse any
    dataset = grain.MapDataset.source(range(samples)).map(partial(make, task)).batch(batch).to_iter_dataset()
    batches = iter(dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=WORKERS)))
    yield from batches
    batches.close()


def spdl(task: str, batch: int, samples: int) -> Batches:
    """Yield batches of a pipeline of SPDL, made in threads."""
    from spdl.pipeline import PipelineBuilder  # type: ignore[import-not-found]

    builder = PipelineBuilder().add_source(range(start, start + batch) for start in range(0, samples, batch))
    builder = builder.pipe(partial(make_batch, task), concurrency=WORKERS, output_order="input").add_sink(16)
    with (pipeline := builder.build(num_threads=WORKERS)).auto_stop():
        yield from pipeline


def collate(made: list[tuple[Array, np.int32]]) -> tuple[Array, Array]:
    """Return a batch of samples."""
    xs, ys = zip(*made, strict=True)
    return np.stack(xs), np.stack(ys)


def spdl_processes(task: str, batch: int, samples: int) -> Batches:
    """Yield batches of SPDL's DataLoader, made in processes."""
    from spdl.dataloader import get_pytorch_dataloader  # type: ignore[import-not-found]

    yield from get_pytorch_dataloader(
        Samples(task, samples), batch_size=batch, num_workers=WORKERS, collate_fn=collate, in_order=True
    )


def ours(task: str, batch: int, samples: int) -> Batches:
    """Yield batches of tfaip_like; its classes are in a separate file, which other sides do not import."""
    from loaders_ours import batches

    return batches(task, batch, samples, WORKERS)


SIDES: dict[str, Callable[[str, int, int], Batches]] = {
    "loop": loop,
    "torch": torch,
    "grain": grain,
    "tfdata": tfdata,
    "spdl": spdl,
    "spdl-mp": spdl_processes,
    "ours": ours,
}


class Run(NamedTuple):
    """Result of one run."""

    checksum: float
    """Sum of the first `NUM_CHECKED_SAMPLES` samples."""
    total: float
    """Samples per second since the start of the process."""
    stream: float
    """Samples per second in the second half of the run."""
    cpu: float
    """Samples per second of CPU time of all processes in the second half."""


def run(side: str, task: str, batch: int, samples: int, seconds: float, start: float) -> Run:
    """Run a side in this process, until some seconds after the `start` of the process."""
    count, checksum, middle, count_before, cpu = 0, 0.0, 0.0, 0, 0.0
    batches = iter(SIDES[side](task, batch, samples))  # holds the workers until their time is read
    for x, y in batches:
        total = float(x.sum(dtype="float64") + y.sum(dtype="float64"))
        if count < NUM_CHECKED_SAMPLES:
            checksum += total
        count += len(y)
        last = time.time()
        if not middle and last - start >= seconds / 2 and count >= NUM_CHECKED_SAMPLES:
            middle, count_before, cpu = last, count, cpu_seconds()
        elif middle and last - start >= seconds:
            break
    later = count - count_before
    return Run(
        checksum, count / (last - start), later / (last - middle), later / max(cpu_seconds() - cpu, CLOCK_TICK_S)
    )


def cpu_seconds() -> float:
    """Return the CPU time of this process and its children."""
    this = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (this, *this.children(recursive=True)))


def measure(side: str, task: str, batch: int, samples: int, seconds: float) -> Run:
    """Run a side in a new process; raise RuntimeError with its last line of stderr if it fails."""
    numbers = map(str, (batch, samples, seconds, time.time()))
    command = [sys.executable, os.path.abspath(__file__), "--run", side, task, *numbers]
    done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return Run(*json.loads(done.stdout.splitlines()[-1]))


def choose_num_samples(task: str, batch: int, seconds: float) -> int:
    """Return the number of samples that no side can make in that time, in full batches."""
    of_fifty = min(timeit.repeat(lambda: make_batch(task, range(50)), number=1, repeat=6))
    return max(NUM_CHECKED_SAMPLES // batch, round(8 * WORKERS * seconds / (of_fifty / 50) / batch)) * batch


def find_usable_sides(sides: list[str]) -> Iterator[str]:
    """Yield the sides that can run here; print why others cannot."""
    for side in sides:
        try:
            measure(side, "trivial", 16, 2 * NUM_CHECKED_SAMPLES, 0)
            yield side
        except RuntimeError as error:
            print(f"{side} left out: {error}", flush=True)


def compare(sides: list[str], task: str, batch: int, seconds: float, rounds: int) -> dict[str, Run]:
    """Measure one task; return the medians by side."""
    samples = choose_num_samples(task, batch, seconds)
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides[:: -1 if number % 2 else 1]:
            runs[side].append(now := measure(side, task, batch, samples, seconds))
            print(f"{task}, batches of {batch}, round {number + 1}: {side} {json.dumps(now._asdict())}", flush=True)
    checksums = {now.checksum for of_side in runs.values() for now in of_side}
    assert len(checksums) == 1, f"{task}: the sides deliver different samples: {checksums}"
    return {side: Run(*map(statistics.median, zip(*of_side, strict=True))) for side, of_side in runs.items()}


def print_table(title: str, sides: list[str], rows: dict[str, dict[str, float]]) -> None:
    """Print the samples per second of each task relative to the loop; the fastest side of each row is bold."""
    print(f"\n{title}\n\n| | {' | '.join(sides)} |\n|---{'|---' * len(sides)}|")
    for name, rates in rows.items():
        ratios = {side: f"{rates[side] / rates['loop']:.2f}" for side in sides}
        cells = [f"**{ratios[side]}**" if rates[side] == max(rates.values()) else ratios[side] for side in sides]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def write_images(directory: str) -> None:
    """Write the JPEG files: noise on gradients, of the size of those in ImageNet."""
    from PIL import Image

    random = np.random.default_rng(1)
    base = np.add.outer(np.arange(375), np.arange(500))[..., None] * np.array([0.1, 0.2, 0.05])
    for number in range(NUM_IMAGES):
        pixels = base + random.normal(64, 20, (375, 500, 3)).cumsum(axis=1) % 40
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(f"{directory}/{number}.jpg", quality=90)


def main() -> None:
    """Compare all sides in all tasks, or run one."""
    parser = argparse.ArgumentParser(description="Compares data loaders.")
    parser.add_argument("--seconds", type=float, default=20, help="duration of a run, several times that of the start")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="besides the loop")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 256], help="batch sizes")
    parser.add_argument("--run", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        side, task, batch, samples, seconds, start = args.run
        print(json.dumps(run(side, task, int(batch), int(samples), float(seconds), float(start))))
        return
    print(__doc__.partition("\n    python ")[0])
    with tempfile.TemporaryDirectory() as directory:
        write_images(directory)
        os.environ[IMAGES_VARIABLE] = directory
        sides = list(find_usable_sides(["loop", *(side for side in args.sides if side != "loop")]))
        results = {
            f"{task}, {batch}": compare(sides, task, batch, args.seconds, args.rounds)
            for task in args.tasks
            for batch in args.batches
        }
    tables = {
        "from the start of the process": "total",
        "in the second half of a run": "stream",
        "in the second half of a run, by CPU time": "cpu",
    }
    for title, field in tables.items():
        rows = {row: {side: getattr(now, field) for side, now in of_sides.items()} for row, of_sides in results.items()}
        print_table(f"Samples per second relative to the loop, {title}", sides, rows)


if __name__ == "__main__":
    main()
