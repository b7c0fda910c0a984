"""Benchmark of sharded sources: speed and memory of an epoch of many small samples.

The samples have 8 floats and an integer, in files of 100,000 samples: Parquet (row groups of 10,000), ArrayRecord
(group_size 1) or tar (one .npy file per sample, 1 kB). Each side runs in its own process and prints the samples per
second, and the memory (private and shared, with its data workers) at ten points of the epoch:

    shuffle   the training data loader, shuffled in windows, batches of 256
    ordered   the training data loader, unshuffled
    library   iteration with the library of the format, in the order of the files, samples as arrays, no batches:
              rows of pyarrow's `iter_batches`, records of an ArrayRecordDataSource, samples of the package webdataset

    python scripts/benchmarks/shards.py write FORMAT DIR SAMPLES
    python scripts/benchmarks/shards.py SIDE FORMAT DIR [--processes N] [--samples N]
"""

from __future__ import annotations

import argparse
import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

SHARD_SAMPLES, ROW_GROUP, BATCH, NUM_FLOATS = 100_000, 10_000, 256, 8


def parse(record: bytes) -> Any:
    """Return the sample of an ArrayRecord."""
    values = np.frombuffer(record, "float32")
    return {"x": values[:-1]}, {"y": values[-1]}


def write(kind: str, folder: Path, samples: int) -> None:
    """Write the shards; the last number of each sample is its index."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, begin in enumerate(range(0, samples, SHARD_SAMPLES)):
        x = np.random.default_rng(shard).random((min(SHARD_SAMPLES, samples - begin), NUM_FLOATS + 1), "float32")
        x[:, -1] = np.arange(begin, begin + len(x)) % 1000
        {"parquet": write_parquet, "array_record": write_records, "tar": write_tar}[kind](
            folder / f"{shard:05d}.{kind}", x
        )


def write_parquet(path: Path, x: Any) -> None:
    """Write a table with a vector and a number per row."""
    import pyarrow
    import pyarrow.parquet

    vectors = pyarrow.FixedSizeListArray.from_arrays(x[:, :-1].ravel(), NUM_FLOATS)
    pyarrow.parquet.write_table(pyarrow.table({"x": vectors, "y": x[:, -1]}), path, row_group_size=ROW_GROUP)


def write_records(path: Path, x: Any) -> None:
    """Write a record of floats per row."""
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for row in x:
        writer.write(row.tobytes())
    writer.close()


def write_tar(path: Path, x: Any) -> None:
    """Write an .npy file per row."""
    with path.open("wb") as file:
        for number, row in enumerate(x):
            data = io.BytesIO()
            np.save(data, row)
            member = tarfile.TarInfo(f"{path.stem}-{number:06d}.npy")
            member.size = data.tell()
            file.write(member.tobuf(tarfile.USTAR_FORMAT) + data.getvalue().ljust(tarfile.BLOCKSIZE, b"\0"))
        file.write(bytes(2 * tarfile.BLOCKSIZE))


def ours(kind: str, folder: Path, processes: int, shuffle: bool) -> Iterator[int]:
    """Yield the number of samples of each stack of batches."""
    from tfaip_like import Data, Mode, Spec
    from tfaip_like.data import ArrayRecordSource, ParquetSource, TrainLoaderSettings, WebDatasetSource
    from tfaip_like.data._loader.loader_factory import open_training

    files, is_tar = folder / f"*.{kind}", kind == "tar"

    class Rows(Data):
        inputs = {"x": Spec((NUM_FLOATS + is_tar,))}
        targets = {} if is_tar else {"y": Spec(())}

        def source(self, mode: Mode) -> Any:
            if is_tar:
                return WebDatasetSource(files, {"x": "npy"}, index_dir=folder / "index")
            columns = {"x": "x"}, {"y": "y"}
            return ParquetSource(files, *columns) if kind == "parquet" else ArrayRecordSource(files, parse)

    data = Rows()
    begin = time.perf_counter()
    source = data.source(Mode.TRAIN)
    print(f"opened {len(source)} samples in {time.perf_counter() - begin:.1f} s")
    settings = TrainLoaderSettings(batch_size=BATCH, num_processes=processes, shuffle=shuffle)
    loader = open_training(data, source, settings, None, seed=1)
    for stack in loader.iter_training(0, loader.steps_per_epoch):
        yield len(stack) * BATCH
    loader.close()


def library(kind: str, folder: Path) -> Iterator[int]:
    """Yield 1 for each sample of the library of the format."""
    files = sorted(map(str, folder.glob(f"*.{kind}")))
    if kind == "parquet":
        import pyarrow.parquet

        for file in files:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(BATCH):
                x = batch.column(0).flatten().to_numpy().reshape(-1, NUM_FLOATS)
                y = batch.column(1).to_numpy()
                yield from (len((x[row], y[row])) // 2 for row in range(len(y)))
    elif kind == "array_record":
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        records = ArrayRecordDataSource(files)
        yield from (len(parse(records[index])) // 2 for index in range(len(records)))
    else:
        import webdataset

        for _ in webdataset.WebDataset(files, shardshuffle=False).decode():
            yield 1


def memory() -> float:
    """Return the memory of this process and its data workers in MB; pages that they share count once."""
    process = psutil.Process()
    return sum(p.memory_full_info().pss for p in (process, *process.children(recursive=True))) / 1e6


def main() -> None:
    """Run one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("write", "shuffle", "ordered", "library"))
    parser.add_argument("kind", choices=("parquet", "array_record", "tar"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=0)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--samples", type=int, default=10**7, help="samples to read at most")
    args = parser.parse_args()
    if args.side == "write":
        write(args.kind, args.folder, args.count)
        return
    counts = (
        library(args.kind, args.folder)
        if args.side == "library"
        else ours(args.kind, args.folder, args.processes, args.side == "shuffle")
    )
    next(counts)
    begin, done, points = time.perf_counter(), 0, [memory()]
    for count in counts:
        done += count
        if done * 10 // args.samples >= len(points):
            points.append(memory())
        if done >= args.samples:
            break
    seconds = time.perf_counter() - begin
    print(
        f"{args.kind} {args.side}: {done} samples, {done / seconds:.0f}/s; MB {' '.join(f'{mb:.0f}' for mb in points)}"
    )


if __name__ == "__main__":
    main()
