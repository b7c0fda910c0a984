"""Benchmark of input pipelines: ours and five others, with Python or NumPy work per sample.

The two tasks: `python` is a pure-Python loop (arithmetic, strings, a dictionary), `numpy` is shifts, Fourier
transforms and sorts of a 64x64 array; about 2 ms a sample each. A sample is made from its index alone, and each
side delivers the same samples in batches of 16, as arrays, unshuffled; nothing trains on them, the parent of the
pipeline only sums them up. The sides:

    loop    a plain loop in one process, `np.stack` for the batches
    tfdata  tf.data with tf.py_function, 2 parallel calls, prefetching
    torch   torch.utils.data.DataLoader, 2 workers, its defaults otherwise
    grain   bare Grain, `mp_prefetch` with 2 processes, its defaults otherwise
    tfaip   ocrd-fork-tfaip, `run_parallel` with 2 processes, its defaults otherwise; in a separate environment:
            python3.10 -m venv DIR && DIR/bin/pip install ocrd-fork-tfaip==1.2.7 tensorflow==2.15.1
    tfaip+  the same without its default of a new worker after every 250 samples
    ours1   tfaip_like with 1 process; ours2: with 2

Each run is a separate process, the sides in turn, in the opposite order every other round. Before that each
side runs once for a few samples, not counted, so that byte code and file cache are warm; a side that fails there
is left out, with a note. Shown are medians. `all s`: from the start of the process to its end, with imports, the
start of the workers and the shutdown. `first s`: from the side's call, which imports its package, to its first
batch. `stream s`: from there to the last; it favours, by a few dozen batches at most, sides that have more than
one ready by then. `speed`: the loop's time by the side's, more is faster. `cpu s`: of all processes of a run. Each
run must deliver the right number of samples and exactly the loop's checksum.

    python scripts/benchmarks/input_pipeline.py [--seconds S] [--rounds N] [--tfaip PYTHON] [--sides ...]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Batches = Iterable[tuple[Array, Array]]

BATCH, PROCESSES, NUM_WARM_UP_SAMPLES = 16, 2, 64
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def python_work(index: int) -> Array:
    """Return a value computed in pure Python: frequencies of leading digit pairs of random numbers."""
    value, numbers, counts = index, [], dict[str, int]()
    for _ in range(2048):
        value = (value * 1664525 + 1013904223) & 0xFFFFFFFF
        key = f"{value:08x}"[:2]
        counts[key] = counts.get(key, 0) + 1
        numbers.append(counts[key] + (value >> 24))
    return np.array([sum(numbers[i : i + 2]) / 512 for i in range(0, 2048, 2)])


def numpy_work(index: int) -> Array:
    """Return a value computed with NumPy: blurred random images, their spectra and sorted rows."""
    image = np.random.default_rng(index).random((64, 64))
    for _ in range(6):
        blurred = sum(np.roll(image, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)) / 9
        spectrum = np.abs(np.fft.fft2(blurred))
        image = np.sort(image, axis=1) + spectrum / spectrum.max()
        image /= image.max()
    return image[::2, ::2]


TASKS: dict[str, Callable[[int], Array]] = {"python": python_work, "numpy": numpy_work}


def make(task: str, index: int) -> tuple[Array, np.int32]:
    """Return the sample of an index: 32x32 values, rounded such that their sums are exact, and the index."""
    x = np.round(TASKS[task](index) * 256) / 256
    return x.reshape(32, 32).astype("float32"), np.int32(index)


def loop(task: str, samples: int) -> Batches:
    """Yield batches, made one by one in this process."""
    for start in range(0, samples, BATCH):
        made = [make(task, index) for index in range(start, start + BATCH)]
        yield np.stack([x for x, _ in made]), np.stack([y for _, y in made])


def tfdata(task: str, samples: int) -> Batches:
    """Yield batches of tf.data with the work in Python functions."""
    import tensorflow as tf

    def load(index: Any) -> Any:
        x, y = tf.py_function(lambda i: make(task, int(i)), [index], [tf.float32, tf.int32])
        return tf.ensure_shape(x, (32, 32)), tf.ensure_shape(y, ())

    dataset = tf.data.Dataset.range(samples).map(load, num_parallel_calls=PROCESSES)
    yield from dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def torch(task: str, samples: int) -> Batches:
    """Yield batches of PyTorch's DataLoader; it forks workers up to Python 3.13, so its class may be local."""
    from torch.utils.data import DataLoader, Dataset

    class Samples(Dataset[Any]):
        def __len__(self) -> int:
            return samples

        def __getitem__(self, index: int) -> tuple[Array, np.int32]:
            return make(task, index)

    for x, y in DataLoader(Samples(), batch_size=BATCH, num_workers=PROCESSES):
        yield x.numpy(), y.numpy()


def grain(task: str, samples: int) -> Batches:
    """Yield batches of Grain, used as in its documentation."""
    import grain  # type: ignore[import-untyped]
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # Grain asks for its flags and fails in scripts that do not parse any
    dataset = grain.MapDataset.source(range(samples)).map(partial(make, task)).batch(BATCH).to_iter_dataset()
    batches = iter(dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=PROCESSES)))
    yield from batches
    batches.close()


def tfaip(keep: bool, task: str, samples: int) -> Batches:
    """Yield batches of tfaip; its classes are in a separate file, which only its own environment can import."""
    from input_pipeline_tfaip import batches

    return batches(task, samples, BATCH, PROCESSES, keep)


def ours(processes: int, task: str, samples: int) -> Batches:
    """Yield batches of tfaip_like; its classes are in a separate file, which other variants do not import."""
    from input_pipeline_ours import batches

    return batches(task, samples, BATCH, processes)


SIDES: dict[str, Callable[[str, int], Batches]] = {
    "loop": loop,
    "tfdata": tfdata,
    "torch": torch,
    "grain": grain,
    "tfaip": partial(tfaip, False),
    "tfaip+": partial(tfaip, True),
    "ours1": partial(ours, 1),
    "ours2": partial(ours, 2),
}


class Run(NamedTuple):
    """Result of one run; `total` and `cpu` are seconds of the whole process."""

    samples: int
    checksum: float
    first: float
    stream: float
    total: float = 0.0
    cpu: float = 0.0


def run(side: str, task: str, samples: int) -> Run:
    """Run a variant in this process; `first` is the time from the call to the first batch."""
    count, checksum, first, start = 0, 0.0, 0.0, time.perf_counter()
    for x, y in SIDES[side](task, samples):
        last = time.perf_counter()
        first = first or last
        count += len(y)
        checksum += float(x.sum(dtype="float64") + y.sum(dtype="float64"))
    return Run(count, checksum, first - start, last - first)


def measure(python: str, side: str, task: str, samples: int) -> Run:
    """Run a variant in a new process; raise RuntimeError with its last line of stderr if it fails."""
    command = [python, os.path.abspath(__file__), "--run", side, task, str(samples)]
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    total, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return Run(*json.loads(done.stdout.splitlines()[-1]))._replace(total=total, cpu=cpu)


def choose_num_samples(task: str, seconds: float) -> int:
    """Return the number of samples that the plain loop makes in that time, in full batches per process."""
    of_fifty = min(timeit.repeat(lambda: [make(task, index) for index in range(50)], number=1, repeat=6))
    return max(1, round(seconds / (of_fifty / 50) / BATCH / PROCESSES)) * BATCH * PROCESSES


def find_usable_sides(sides: list[str], pythons: dict[str, str], task: str) -> Iterator[str]:
    """Return the variants that can run here; print why others cannot."""
    for side in sides:
        try:
            measure(pythons[side], side, task, NUM_WARM_UP_SAMPLES)
            yield side
        except (OSError, RuntimeError) as error:
            print(f"{task}: {side} left out: {error}", flush=True)


def compare(sides: list[str], pythons: dict[str, str], task: str, seconds: float, rounds: int) -> None:
    """Measure one task and print its table."""
    samples = choose_num_samples(task, seconds)
    sides = list(find_usable_sides(sides, pythons, task))
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides[:: -1 if number % 2 else 1]:  # the loop, which the others must agree with, is first
            now = measure(pythons[side], side, task, samples)
            runs[side].append(now)
            print(f"{task}, round {number + 1}: {side} {json.dumps(now._asdict())}", flush=True)
            assert now[:2] == (samples, runs["loop"][0].checksum), f"{side}: wrong number of samples or checksum"
    print_table(task, samples, runs)


def print_table(task: str, samples: int, runs: dict[str, list[Run]]) -> None:
    """Print the table of a task."""
    middle = {side: Run(*map(statistics.median, zip(*of_side, strict=True))) for side, of_side in runs.items()}
    print(f"\n{task}: {samples} samples, median of {len(runs['loop'])}")
    print("  side    all s  speed  first s  stream s  speed  samples/s   cpu s")
    for side, now in middle.items():
        speed, stream = middle["loop"].total / now.total, middle["loop"].stream / now.stream
        print(f"  {side:6}{now.total:7.1f}{speed:7.2f}{now.first:9.2f}{now.stream:10.1f}{stream:7.2f}", end="")
        print(f"{(samples - BATCH) / now.stream:11.0f}{now.cpu:8.1f}", flush=True)


def main() -> None:
    """Compare all variants in both tasks, or run one."""
    parser = argparse.ArgumentParser(description="Compares input pipelines.")
    parser.add_argument("--seconds", type=float, default=60, help="how long the plain loop takes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tfaip", default="no-tfaip", metavar="PYTHON", help="interpreter of tfaip's environment")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="besides the loop")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--run", nargs=3, metavar=("SIDE", "TASK", "SAMPLES"), help="one run in this process")
    args = parser.parse_args()
    if args.run:
        print(json.dumps(run(args.run[0], args.run[1], int(args.run[2]))))
        return
    print(__doc__.partition("\n    python ")[0])
    pythons = {**dict.fromkeys(SIDES, sys.executable), "tfaip": args.tfaip, "tfaip+": args.tfaip}
    for task in args.tasks:
        compare(["loop", *(side for side in args.sides if side != "loop")], pythons, task, args.seconds, args.rounds)


if __name__ == "__main__":
    main()
