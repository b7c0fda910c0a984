"""Recognition of text lines (OCR) in images that list files name; a.gt.txt is the transcription of a.png.

To generate synthetic lines, run `python -m scenarios.text_lines.draw lines`. Then:

train-scenario scenarios.text_lines --train.lists lines/train.lst --val.lists lines/val.lst
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from tfaip_like import Evaluator, Mode, Model, Processor, Sample, Spec, UsageError
from tfaip_like.data import Source, image_size
from tfaip_like.list_files import ListFileData, ListFileScenario, ListTrainLoaderSettings
from tfaip_like.optimizers import Adam, Optimizer
from tfaip_like.schedules import CosineDecay, Schedule
from tfaip_like.settings import Trainer

from .model import LineRecognition
from .processors import (
    Augment,
    Decode,
    Encode,
    ReadImage,
    ScaleHeight,
    read_codec,
    scaled_width,
)

logger = logging.getLogger(__name__)


class Lines(ListFileData):
    """Line images; the transcription of a.png is in a.gt.txt."""

    height: int = 32
    """Height in pixels to which lines are scaled."""

    codec: Path | None = None
    """File with all characters that can be recognized; by default, those of the training lines."""

    processors: list[Processor] = [Augment()]
    """Processors of images before scaling, in this order."""

    resources = ("codec",)

    targets = {"codes": Spec((None,), "int32"), "length": Spec((), "int32")}

    @property
    def inputs(self) -> Mapping[str, Spec]:
        return {"image": Spec((None, self.height), "uint8"), "width": Spec((), "int32")}

    def sample(self, file: Path) -> Sample:
        transcription = file.with_suffix(".gt.txt")
        try:
            text = transcription.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{transcription}: failed to read the transcription of {file}: {error}") from error
        return Sample(meta={"file": str(file), "text": text})

    def pipeline(self, mode: Mode) -> Sequence[Processor]:
        assert self.codec is not None
        steps = [ReadImage(), *super().pipeline(mode), ScaleHeight(height=self.height)]
        return steps if mode is Mode.PREDICT else [*steps, Encode(codec=self.codec, drop_narrow=mode is Mode.TRAIN)]

    def post_pipeline(self, mode: Mode) -> Sequence[Processor]:
        assert self.codec is not None
        return [Decode(codec=self.codec), *super().post_pipeline(mode)]

    def length(self, sample: Sample) -> int:
        return scaled_width(*image_size(sample.meta["file"]), self.height)


class CharacterErrorRate(Evaluator):
    """Character error rate, and the fraction of lines with errors."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        errors = characters = lines = wrong_lines = 0
        for sample in samples:
            distance = edit_distance(sample.outputs["text"], sample.meta["text"])
            errors += distance
            characters += len(sample.meta["text"])
            wrong_lines += distance > 0
            lines += 1
        return {"character_error_rate": errors / max(1, characters), "wrong_lines": wrong_lines / max(1, lines)}


def edit_distance(a: str, b: str) -> int:
    """Return the minimum number of insertions, deletions and replacements from `a` to `b` (Levenshtein, 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


class TextLines(ListFileScenario):
    """Recognition of text lines."""

    data: ListFileData = Lines()
    model: Model = LineRecognition()
    evaluator: Evaluator | None = CharacterErrorRate()
    train: ListTrainLoaderSettings = ListTrainLoaderSettings(buckets=10)
    trainer: Trainer = Trainer(epochs=12)
    optimizer: Optimizer = Adam(clip_global_norm=5.0)
    learning_rate: Schedule = CosineDecay(lr=3e-3)

    def adapt(self, train: Source | None, folder: Path) -> Self:
        assert isinstance(self.data, Lines)
        assert isinstance(self.model, LineRecognition)
        codec = self.data.codec
        texts = list(_iter_transcriptions(train, must_be_read=codec is None and self.data.on_bad_sample == "raise"))
        if codec is None:
            codec = folder / "codec.txt"
            codec.write_text("".join(sorted(set().union(*texts))), encoding="utf-8")
        warn_about_unknown_characters(texts, codec)
        classes = len(read_codec(codec)) + 1
        return dataclasses.replace(
            self,
            data=dataclasses.replace(self.data, codec=codec),
            model=dataclasses.replace(self.model, classes=classes),
        )

    def example_text(self, sample: Sample) -> str:
        return f"{sample.outputs['text']!r}, is {sample.meta['text']!r}"


def _iter_transcriptions(train: Source | None, must_be_read: bool) -> Iterator[str]:
    """Yield the transcriptions; unreadable ones raise, or are skipped here and reported in training."""
    assert isinstance(train, Sequence)
    for index in range(len(train)):
        try:
            yield train[index].meta["text"]
        except UsageError:
            if must_be_read:
                raise


def warn_about_unknown_characters(texts: Sequence[str], codec: Path) -> None:
    """Log a warning with the characters of training texts that are missing in the codec, and their counts."""
    unknown = Counter("".join(texts))
    for character in read_codec(codec):
        del unknown[character]
    if unknown:
        lines = sum(not unknown.keys().isdisjoint(text) for text in texts)
        logger.warning(
            "--data.codec %s: %d of %d training lines contain characters missing in the codec; these are removed "
            "from the targets: %s",
            codec,
            lines,
            len(texts),
            ", ".join(f"{character!r} ({count} times)" for character, count in unknown.most_common(10)),
        )
