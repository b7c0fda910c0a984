"""Post-processors: transformation of predicted samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tfaip_like.data._loader.dropped_samples import DroppedSample, DropReport
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._processors import DropSample
from tfaip_like.data._sample import Sample


def apply_postprocessors(
    samples: SampleReader, predicted: Iterable[tuple[int, Sample]], report: DropReport | None = None
) -> Iterator[Sample]:
    """Yield predicted samples after the post-processors of their data, without dropped ones.

    Args:
        samples: reader of the samples.
        predicted: pairs of the index in the source and the predicted sample.
        report: records dropped samples; None to ignore them.
    """
    processors = samples.data.validate_processors("post_pipeline", samples.mode)
    for number, (index, sample) in enumerate(predicted):
        result: Sample | None = sample
        for stage, processor in enumerate(processors):
            assert result is not None
            reason = ""
            try:
                result = processor.process(result, samples.random.generator_for((0, number, 0), stage))
            except DropSample as drop:
                result, reason = None, str(drop)
            processor.validate_result(result)
            if result is None:
                if report is not None:
                    report.record(
                        [DroppedSample(index, type(processor).__name__, reason, samples.is_stream)],
                        samples.describe_sample,
                    )
                break
        if result is not None:
            yield result
