"""Evaluators that are ready to be used."""

from __future__ import annotations

import numpy as np
import pytest

from tfaip_like import Sample
from tfaip_like.evaluators import Classes
from tfaip_like.summaries import ConfusionMatrix


@pytest.mark.parametrize("outputs", [[0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]])
def test_classes_are_judged_from_their_number_or_their_probabilities(outputs: list[object]) -> None:
    samples = [
        Sample(inputs={}, targets={"kind": np.int32(right)}, outputs={"class": np.asarray(output)})
        for right, output in zip([0, 1, 0], outputs, strict=True)
    ]
    judged = Classes(target="kind", output="class", names=["cat", "dog"]).evaluate(samples)
    assert judged["worst_class_recall"] == 0.5
    confusion = judged["confusion"]
    assert isinstance(confusion, ConfusionMatrix)
    assert confusion.counts().tolist() == [[1, 1], [0, 1]]
