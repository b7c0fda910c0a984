"""Evaluator for text: error rates and alignments."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfaip_like._utils.errors import UsageError, with_article
from tfaip_like.data._sample import Sample, get_target
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.evaluation._packages import import_extra
from tfaip_like.summaries import Summary, Text


class TextEvaluator(Evaluator):
    """Text evaluator on jiwer: character and word error rate, and alignments of the worst texts.

    Values: `character_error_rate` and `word_error_rate` (insertions, deletions and substitutions divided by the length
    of the true texts) and `wrong_texts`, the fraction of texts with an error. Summary: `worst_texts`. White space at
    the ends of a text does not count.

    Requires the extra `evaluation`; keeps all texts in memory.

    Example:
        >>> samples = [Sample(targets={"text": "good day"}, outputs={"text": text}) for text in ("good day", "god day")]
        >>> TextEvaluator().evaluate(samples)["character_error_rate"]
        0.0625
    """

    target: str = "text"
    """Target, or entry of the meta, with the true text."""

    output: str = "text"
    """Output with the predicted text, such as that of a post-processor."""

    num_worst: int = 10
    """Number of texts with the most character errors to show."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        jiwer = import_extra("jiwer")
        references, hypotheses = [], []
        for number, sample in enumerate(samples):
            references.append(_as_text("target", self.target, get_target(sample, self.target), number))
            hypotheses.append(_as_text("output", self.output, sample.outputs[self.output], number))
        if not any(references):
            raise UsageError(f"TextEvaluator: all texts of target {self.target!r} are empty")
        characters = jiwer.process_characters(references, hypotheses)
        words = jiwer.process_words(references, hypotheses)
        errors = [sum(_num_errors(chunk) for chunk in chunks) for chunks in characters.alignments]
        worst = heapq.nlargest(
            self.num_worst, (number for number, count in enumerate(errors) if count), key=errors.__getitem__
        )
        aligned = [_align(references[number], hypotheses[number]) for number in worst]
        return {
            "character_error_rate": float(characters.cer),
            "word_error_rate": float(words.wer),
            "wrong_texts": float(np.mean(np.array(errors) > 0)),
            "worst_texts": Text("\n".join(aligned) or "no errors"),
        }


def _as_text(kind: str, name: str, value: object, number: int) -> str:
    text = value.item() if isinstance(value, np.ndarray | np.generic) and np.size(value) == 1 else value
    if isinstance(text, bytes):
        return text.decode()
    if not isinstance(text, str):
        got = with_article(type(text).__name__)
        raise UsageError(f"TextEvaluator: {kind} {name!r} of sample {number} is {got}; expected a text")
    return text


def _align(reference: str, hypothesis: str) -> str:
    """Return two texts below each other as Markdown, with the errors marked."""
    jiwer = import_extra("jiwer")
    aligned: str = jiwer.visualize_alignment(jiwer.process_characters(reference, hypothesis), show_measures=False)
    lines = aligned.splitlines()[1:]  # without the number of the text
    return "\n".join(["```", *(line.rstrip() for line in lines if line.strip()), "```"])


def _num_errors(chunk: Any) -> int:
    if chunk.type == "equal":
        return 0
    return int(max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx))
