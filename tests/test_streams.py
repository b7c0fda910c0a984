"""Samples that are made in groups: regrouping, shuffling in blocks, counting, length buckets, opening at any place."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_data import AtSample, Counted, Jitter, Pieces

from tfaip_like import Data, Mode, Processor, Sample, UsageError
from tfaip_like.data import (
    DropSample,
    Mixture,
    RangeFilter,
    StreamProcessor,
    TrainLoaderSettings,
    ValLoaderSettings,
    process_samples,
)
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.loader_factory import open_training, open_validation
from tfaip_like.params._tree import validate_params


class Cut(StreamProcessor):
    """Makes several samples of each, as many as its number says."""

    pieces: int = 3
    """One more than the most."""

    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        for sample in samples:
            for piece in range(1 + sample.meta["number"] % self.pieces):
                yield dataclasses.replace(sample, meta={**sample.meta, "piece": piece})


class Join(StreamProcessor):
    """Notes in each sample those of its group."""

    key: str = "group"
    """Name in the meta of samples."""

    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        together = list(samples)
        names = [(sample.meta["number"], sample.meta.get("piece")) for sample in together]
        for sample in together:
            yield dataclasses.replace(sample, meta={**sample.meta, self.key: names})


def open_loader(data: Data, samples_per_epoch: int | None = None, seed: int = 7, **changes: Any) -> DataLoader:
    train = TrainLoaderSettings(**{"batch_size": 8, "num_processes": 0, **changes})
    return open_training(data, data.source(Mode.TRAIN), train, samples_per_epoch, seed)


def names_of(batches: Iterable[Batch]) -> list[tuple[int, int | None]]:
    return [(meta["number"], meta.get("piece")) for batch in batches for meta in batch.meta]


def pieces(count: int, most: int = 3) -> Counter[tuple[int, int | None]]:
    return Counter((number, piece) for number in range(count) for piece in range(1 + number % most))


@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    buffer=st.integers(1, 100),
    group=st.integers(1, 20),
    seed=st.integers(0, 2**31),
    iterable=st.booleans(),
)
@settings(max_examples=60)
def test_each_pass_has_every_sample_once_and_batches_are_full(
    count: int, batch_size: int, buffer: int, group: int, seed: int, iterable: bool
) -> None:
    data = Counted(count=count, iterable=iterable, processors=[Cut(group=group)])
    expected = pieces(count)
    total = expected.total()
    batches = open_loader(data, max(total, batch_size), seed, batch_size=batch_size, shuffle_buffer=buffer)
    made = list(batches.iter_batches(0, -(-3 * total // batch_size)))
    assert {len(batch) for batch in made} == {batch_size}
    names = names_of(made)
    for data_pass in range(3):
        assert Counter(names[data_pass * total : (data_pass + 1) * total]) == expected


@pytest.mark.slow
@given(
    place=st.integers(0, 40),
    batch_size=st.integers(1, 9),
    buffer=st.integers(1, 60),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    iterable=st.booleans(),
    ragged=st.booleans(),
)
@settings(max_examples=60)
def test_a_stream_can_be_opened_at_any_position(
    place: int, batch_size: int, buffer: int, sizes: list[int], iterable: bool, ragged: bool
) -> None:
    processors: list[Processor] = [Jitter() if not ragged else AtSample(index=-1)]
    for size in sizes:
        processors += [Cut(group=size), Pieces(group=size + 1), Join(group=size, key=f"group{len(processors)}")]
    data = Counted(count=23, iterable=iterable, ragged=ragged, processors=processors)
    changes = {"batch_size": batch_size, "shuffle_buffer": buffer, **({"buckets": 3} if ragged else {})}

    def numbered(batches: DataLoader, first: int) -> list[bytes]:
        return [batch.inputs["x"].tobytes() + repr(batch.meta).encode() for batch in batches.iter_batches(first, 45)]

    straight = open_loader(data, 100, **changes)
    all_of_them = numbered(straight, 0)
    assert len(all_of_them) == 45
    assert numbered(open_loader(data, 100, **changes), place) == all_of_them[place:]
    kept = straight.stream_state(place)
    assert kept is not None
    assert kept.batch == place
    marked = open_loader(data, 100, **changes)
    marked.seek(place, kept, is_same=True)
    assert numbered(marked, place) == all_of_them[place:]


def test_a_bookmark_avoids_processing_earlier_samples() -> None:
    made: list[int] = []

    class Watched(Processor):
        def process(self, sample: Sample, random: np.random.Generator) -> Sample:
            made.append(sample.meta["number"])
            return sample

    data = Counted(count=400, processors=[Watched(), Cut(group=10)])
    straight = open_loader(data, 100, shuffle_buffer=20)
    list(straight.iter_batches(0, 300))
    again = open_loader(data, 100, shuffle_buffer=20)
    again.seek(290, straight.stream_state(290), is_same=True)
    made.clear()
    next(again.iter_batches(290, 300))
    assert len(made) < 60


def test_batches_behind_a_stream_processor_are_mixed() -> None:
    class Many(Cut):
        def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
            for sample in samples:
                yield from [sample] * 16

    for iterable in (False, True):
        batches = open_loader(Counted(count=40, iterable=iterable, processors=[Many()]), 640, batch_size=16)
        classes = [len({meta["number"] for meta in batch.meta}) for batch in batches.iter_batches(0, 40)]
        assert min(classes) >= 8
    unshuffled = open_loader(Counted(count=40, processors=[Many()]), batch_size=16, shuffle=False)
    assert [len({meta["number"] for meta in batch.meta}) for batch in unshuffled.iter_batches(0, 40)] == [1] * 40


@pytest.mark.parametrize(("first", "second"), [(500, 64), (64, 500), (7, 7), (1, 30), (30, 1)])
def test_each_stream_processor_sees_groups_of_its_size(first: int, second: int) -> None:
    samples = Counted(count=1000).source(Mode.TRAIN)
    made = list(process_samples(iter(samples), [Join(group=first, key="a"), Join(group=second, key="b")]))
    assert [sample.meta["number"] for sample in made] == list(range(1000))
    for key, size in (("a", first), ("b", second)):
        groups = {sample.meta[key][0]: len(sample.meta[key]) for sample in made}
        assert list(groups.values()) == [size] * (1000 // size) + ([1000 % size] if 1000 % size else [])


@given(count=st.integers(0, 40), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_regrouping_keeps_every_sample_in_its_order(count: int, sizes: list[int]) -> None:
    processors = [Join(group=size, key=str(number)) for number, size in enumerate(sizes)]
    samples = Counted(count=count).source(Mode.TRAIN)
    made = list(process_samples(iter(samples), [Cut(group=3), *processors]))
    expected = [(number, piece) for number in range(count) for piece in range(1 + number % 3)]
    assert [(sample.meta["number"], sample.meta["piece"]) for sample in made] == expected
    for number, size in enumerate(sizes):
        for place, sample in enumerate(made):
            begin = place // size * size
            assert sample.meta[str(number)] == expected[begin : begin + size]


CHAINED: list[Processor] = [Jitter(), Pieces(group=4), Cut(group=9), Join(group=5), Jitter()]


@pytest.mark.parametrize("iterable", [False, True])
def test_chained_stream_processors_give_the_same_with_data_workers(iterable: bool) -> None:
    data = Counted(count=70, iterable=iterable, processors=CHAINED)

    def made(num_processes: int, first: int = 0) -> list[bytes]:
        batches = open_loader(data, 100, num_processes=num_processes, shuffle_buffer=30, prefetch=4)
        try:
            return [b.inputs["x"].tobytes() + repr(b.meta).encode() for b in batches.iter_batches(first, 40)]
        finally:
            batches.close()

    straight = made(0)
    assert made(2) == straight
    assert made(2, first=17) == straight[17:]


def test_an_epoch_is_one_pass_and_counted_with_data_workers_alike() -> None:
    data = Counted(count=500, processors=[AtSample(index=-1), Cut(group=20)])
    for num_processes in (0, 2):
        batches = open_loader(data, num_processes=num_processes)
        batches.close()
        assert len(batches) == pieces(500).total()
        assert batches.steps_per_epoch == pieces(500).total() // 8
    assert open_loader(data, 80).steps_per_epoch == 10
    assert len(open_loader(data, 80)) == 0  # nothing was counted


def test_an_epoch_of_length_buckets_has_all_batches_of_a_pass() -> None:
    data = Counted(count=60, ragged=True, processors=[Cut()])
    batches = open_loader(data, buckets=3, max_batch_length=24, shuffle_buffer=50)
    made = list(batches.iter_batches(0, batches.steps_per_epoch))
    assert Counter(names_of(made)) == pieces(60)
    assert all(len(batch) * batch.inputs["x"].shape[1] <= 24 for batch in made)
    half = open_loader(data, len(batches) // 2, buckets=3, max_batch_length=24, shuffle_buffer=50)
    assert half.steps_per_epoch == len(batches) // 2 // 8  # not counted, so as if all batches were full


def test_length_buckets_pad_less_than_batches_of_all_lengths() -> None:
    def padded(**changes: Any) -> int:
        batches = open_loader(Counted(count=210, ragged=True, processors=[Cut()]), 400, **changes)
        return sum(batch.inputs["x"].size for batch in batches.iter_batches(0, 50))

    assert padded(buckets=7) < 0.8 * padded()


def test_class_weights_count_what_the_stream_makes() -> None:
    class Copies(Cut):
        def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
            for sample in samples:
                label = sample.meta["number"] % 2
                for _ in range(3 if label else 1):
                    yield dataclasses.replace(sample, targets={"y": label})

    batches = open_loader(Counted(count=40, processors=[Copies()]), balance="loss")
    for batch in batches.iter_batches(0, 10):
        assert batch.weights is not None
        np.testing.assert_allclose(batch.weights, np.where(batch.targets["y"], 80 / (2 * 60), 80 / (2 * 20)))


def test_validation_has_every_sample_once_in_order() -> None:
    data = Counted(count=30, processors=[Cut()])
    for num_processes in (0, 2):
        validation = open_validation(
            data, data.source(Mode.EVALUATE), ValLoaderSettings(batch_size=8, num_processes=num_processes), 7
        )
        assert validation is not None
        expected = [(number, piece) for number in range(30) for piece in range(1 + number % 3)]
        assert names_of(validation.iter_pass()) == expected
        validation.close()


def test_a_stream_that_makes_nothing_is_rejected() -> None:
    class Nothing(Cut):
        def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
            list(samples)
            yield from ()

    with pytest.raises(UsageError, match="the processors of Counted produced no samples"):
        open_loader(Counted(processors=[Nothing()]))


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_a_stream_of_which_all_is_dropped_is_rejected_with_the_reason(cache: str) -> None:
    class DropAll(Processor):
        def process(self, sample: Sample, random: np.random.Generator) -> Sample:
            raise DropSample("too dark")

    with pytest.raises(UsageError, match="produced no samples; DropAll dropped the last one: too dark"):
        open_loader(Counted(processors=[Cut(), DropAll()]), cache=cache)


def test_a_bad_sample_is_reported_when_reading_single_samples() -> None:
    class Breaks(Cut):
        def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
            for sample in samples:
                if sample.meta["number"] == 13:
                    raise ValueError("this one")
                yield sample

    with pytest.raises(ValueError, match="this one") as raised:
        list(open_loader(Counted(processors=[Breaks()]), 40, shuffle=False).iter_batches(0, 5))
    note = "This was training sample 13 of Counted, in the group that begins with training sample 0 of Counted."
    assert raised.value.__notes__ == [note]


def test_an_upstream_error_is_named_once() -> None:
    data = Counted(processors=[AtSample(index=5), Cut()])
    with pytest.raises(ValueError, match="this one is bad") as raised:
        open_loader(data)
    assert raised.value.__notes__ == ["This was training sample 5 of Counted."]


def test_samples_keep_the_index_of_what_they_were_made_of() -> None:
    batches = open_loader(Counted(count=30, processors=[Cut()]), 40)
    for batch in batches.iter_batches(0, 5):
        assert list(batch.indices) == [meta["number"] for meta in batch.meta]


def test_meta_travels_through_stream_processors() -> None:
    batches = open_loader(Counted(count=10, processors=[Cut()]), 8)
    for batch in batches.iter_batches(0, 2):
        assert [meta["number"] for meta in batch.meta] == batch.targets["y"].tolist()


def test_other_data_begin_with_the_next_pass() -> None:
    data = Counted(count=30, processors=[Cut(), Join(group=10)])
    straight = open_loader(data, 60, shuffle_buffer=20)
    list(straight.iter_batches(0, 20))
    kept = straight.stream_state(20)
    changed = open_loader(data, 60, shuffle_buffer=25)
    changed.seek(20, kept, is_same=False)
    total = pieces(30).total()
    made = names_of(changed.iter_batches(20, 20 + total // 8 + 1))[:total]
    assert Counter(made) == pieces(30)


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("num_processes", [0, 2])
def test_cached_streams_have_an_index(place: str, num_processes: int) -> None:
    data = Counted(count=50, processors=[AtSample(index=3, what="drop"), Cut(group=7), Join(group=4), Jitter()])
    batches = open_loader(data, cache=place, num_processes=num_processes)
    assert batches.stream is None
    expected = pieces(50)
    del expected[3, 0]
    assert len(batches) == expected.total()
    made = names_of(batch for number in range(30) for batch in [batches.batch(number)])
    total = expected.total()
    for data_pass in range(2):
        assert Counter(made[data_pass * total : (data_pass + 1) * total]) == expected
    values = [batches.batch(number).inputs["x"].tobytes() for number in range(20)]
    assert len(set(values)) == 20  # what is random is not cached
    batches.close()


def test_cached_samples_know_their_origin() -> None:
    batches = open_loader(Counted(count=9, processors=[Cut()]), cache="memory")
    assert batches.samples.describe_sample(4) == "training sample 4 of Counted (from sample 2)"


def test_only_what_precedes_a_random_stream_processor_is_cached() -> None:
    made: list[int] = []

    class Watched(Processor):
        def process(self, sample: Sample, random: np.random.Generator) -> Sample:
            made.append(sample.meta["number"])
            return sample

    data = Counted(count=50, processors=[Watched(), Pieces()])
    batches = open_loader(data, cache="memory", shuffle_buffer=20)
    assert batches.stream is not None
    made.clear()
    cached = [batch.inputs["x"].tobytes() for batch in batches.iter_batches(0, 20)]
    assert not made
    straight = open_loader(data, shuffle_buffer=20)
    assert [batch.inputs["x"].tobytes() for batch in straight.iter_batches(0, 20)] == cached


def test_a_stream_processor_that_is_sometimes_random_cannot_be_cached() -> None:
    class Sometimes(Cut):
        def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
            for sample in samples:
                if sample.meta["number"] == 30:
                    random.random()
                yield sample

    with pytest.raises(
        UsageError, match="Sometimes is not deterministic: it used its random generator on the group that begins"
    ):
        open_loader(Counted(processors=[Sometimes(group=5)]), cache="memory", shuffle=False)


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_mixtures_keep_their_ratios_behind_stream_processors(cache: str) -> None:
    data = Counted(count=1, processors=[Cut(pieces=4, group=10)])
    parts = [[data.sample(number) for number in numbers] for numbers in (range(30), range(1000, 1300))]
    batches = open_training(
        data, Mixture(parts, weights=[1, 1]), TrainLoaderSettings(batch_size=10, num_processes=0, cache=cache), None, 7
    )
    names = names_of(map(batches.batch, range(batches.steps_per_epoch)))
    of_first = sum(number < 1000 for number, _ in names) / len(names)
    assert 0.45 < of_first < 0.55


def test_filters_see_samples_as_the_source_gives_them() -> None:
    for cache in ("none", "memory"):
        batches = open_loader(
            Counted(count=50, processors=[Cut()]), filter=[RangeFilter(name="y", high=19)], limit=40, cache=cache
        )
        assert Counter(names_of(map(batches.batch, range(batches.steps_per_epoch)))) <= pieces(20)
        assert len(batches) == pieces(20).total()


def test_cached_streams_are_cut_by_length_and_balanced() -> None:
    data = Counted(count=60, ragged=True, processors=[Cut()])
    batches = open_loader(data, cache="memory", buckets=3, max_batch_length=24)
    made = list(batches.iter_batches(0, batches.steps_per_epoch))
    assert Counter(names_of(made)) == pieces(60)
    assert all(len(batch) * batch.inputs["x"].shape[1] <= 24 for batch in made)
    balanced = open_loader(Counted(count=4, processors=[Cut()]), cache="memory", balance="loss", batch_size=7)
    weights = balanced.batch(0).weights
    assert weights is not None
    assert weights.sum() == pytest.approx(7)


@pytest.mark.parametrize("wrong", [None, 3])
def test_stream_results_that_are_not_samples_are_rejected(wrong: Any) -> None:
    class Wrong(Cut):
        def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
            for sample in samples:
                yield sample
                yield wrong

    with pytest.raises(UsageError, match=r"Wrong\.process_group yielded an? (NoneType|int), expected a Sample"):
        list(process_samples(iter(Counted().source(Mode.TRAIN)), [Wrong()]))


def test_blocks_of_large_samples_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfaip_like.data._loader.streams.MAX_BLOCK_BYTES", 200)  # 12 bytes and 4 of a sample
    data = Counted(count=100, iterable=True, processors=[Cut(pieces=1, group=5)])

    def reach(**changes: Any) -> int:
        """Return how far from its place in the source a sample comes."""
        batches = open_loader(data, 96, **changes)
        names = names_of(batches.iter_batches(0, 12))
        return max(abs(place - number) for place, (number, _) in enumerate(names))

    assert reach() < 20
    assert reach(shuffle_buffer=100) > 40


def test_a_buffer_that_has_no_effect_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    open_loader(Counted(), shuffle_buffer=10)
    assert "--train.shuffle_buffer ignored" in caplog.text


def test_a_stream_processor_cannot_drop_a_sample_by_an_exception() -> None:
    class Drops(Cut):
        def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
            for _ in samples:
                raise DropSample("too short")
            yield from ()

    with pytest.raises(
        UsageError, match=r"Drops.process_group raised DropSample \(too short\), which would drop the rest"
    ):
        list(process_samples(iter(Counted().source(Mode.TRAIN)), [Drops()]))


def test_a_stream_processor_is_rejected_as_a_post_processor() -> None:
    with pytest.raises(UsageError, match="--post_processors Cut: a StreamProcessor cannot be a post-processor"):
        validate_params(Counted(post_processors=[Cut()]))


class DropPiece(Processor):
    """Drops the first piece of two samples."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        return None if sample.meta["number"] in (2, 5) and sample.meta["piece"] == 0 else sample


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_a_sample_of_which_pieces_are_dropped_is_not_called_dropped(
    cache: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = Counted(processors=[Cut(), DropPiece()])
    batches = open_validation(data, data.source(Mode.EVALUATE), ValLoaderSettings(num_processes=0, cache=cache), 7)
    assert batches is not None
    assert Counter(names_of(batches.iter_pass())) == pieces(50) - Counter([(2, 0), (5, 0)])
    batches.close()
    assert "--val: DropPiece dropped parts of 2 of 50 samples (validation sample 2 of Counted; " in caplog.text


@pytest.mark.parametrize("num_processes", [0, 1])
def test_process_samples_reports_what_it_drops(num_processes: int, caplog: pytest.LogCaptureFixture) -> None:
    samples = iter(Counted().source(Mode.TRAIN))
    made = list(
        process_samples(samples, [AtSample(index=3, what="drop"), AtSample(index=-1)], num_processes=num_processes)
    )
    assert len(made) == 49
    assert "process_samples: AtSample dropped 1 sample (prediction sample 3)" in caplog.text
