"""Comparison of the shipped scenarios with simple methods on the same data: python -m scripts.baselines [NAME ...].

Logistic regression for jets and the zoo's classifiers, a linear least-squares fit for the track trigger, principal
components for the zoo's autoencoders; each on the validation samples. Prints the table of docs/scenarios.md, about
four minutes on two cores. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scenarios.jets.data import Jets
from scenarios.jets.model import fit_scaling
from scenarios.jets.scenario import JetTagging, TaggingEvaluator
from scenarios.network_zoo.architectures import AUTOENCODERS, CLASSIFIERS
from scenarios.network_zoo.scenario import Autoencoder, Classifier, NetworkZoo, ShapeImages
from scenarios.track_trigger.scenario import ResolutionEvaluator, Tracks, TrackTrigger
from tfaip_like import ArraySource, Data, Mode, Sample, Scenario, train
from tfaip_like.data import TrainLoaderSettings

Array = npt.NDArray[Any]
Row = tuple[str, str, float, float, float]
"""Name, metric, value of the baseline, value of the network, training time in seconds."""


def load_sources(data: Data) -> tuple[ArraySource, ArraySource]:
    """Return the training and the validation samples."""
    sources = data.source(Mode.TRAIN), data.source(Mode.EVALUATE)
    assert all(isinstance(source, ArraySource) for source in sources)
    return sources  # type: ignore[return-value]


def train_and_time(scenario: Scenario) -> tuple[Mapping[str, float], float]:
    """Train; return the values of the best epoch and the training time in seconds."""
    begin = time.perf_counter()
    result = train(dataclasses.replace(scenario, trainer=dataclasses.replace(scenario.trainer, random_seed=1)))
    assert result.best_epoch is not None
    return result.history[result.best_epoch - 1], time.perf_counter() - begin


def jets() -> Iterator[Row]:
    """Yield rows of logistic regression on scaled features, with and without class weights."""
    from sklearn.linear_model import LogisticRegression

    with tempfile.TemporaryDirectory() as folder:
        data = Jets(folder=Path(folder))
        one, other = load_sources(data)
        scaling = fit_scaling(one, data)

        def scaled(features: Array) -> Array:
            known = np.where(features == scaling.missing, scaling.replacements, features)
            return np.asarray((known - scaling.means) / scaling.deviations)

        x, y = scaled(one.inputs["features"]), one.targets["class"]
        for balance, weights in {"none": None, "loss": "balanced", "sample": "balanced"}.items():
            fitted = LogisticRegression(max_iter=1000, class_weight=weights).fit(x, y)
            probabilities = fitted.predict_proba(scaled(other.inputs["features"]))
            baseline = TaggingEvaluator().evaluate(
                Sample(targets={"class": label}, outputs={"probabilities": row})
                for label, row in zip(other.targets["class"], probabilities, strict=True)
            )
            values, seconds = train_and_time(
                JetTagging(data=data, train=TrainLoaderSettings(batch_size=256, balance=balance))
            )  # type: ignore[arg-type]
            for name in ("mean_auc", "mean_accuracy", "rejection_light"):
                number = baseline[name]
                assert isinstance(number, float)
                yield f"jets, --train.balance {balance}", name, number, values[f"val_{name}"], seconds


def track_trigger() -> Iterator[Row]:
    """Yield rows of linear regression on the hits, for all samples and for each expert."""
    for expert in range(6):
        scenario = TrackTrigger(data=Tracks(expert=expert))  # type: ignore[arg-type]
        one, other = load_sources(scenario.data)
        x, v = (np.column_stack([source.inputs["hits"], np.ones(len(source))]) for source in (one, other))
        answers = v @ np.linalg.lstsq(x, one.targets["track"], rcond=None)[0]
        rows = zip(other.inputs["hits"], other.targets["track"], other.targets["expert"], answers, strict=True)
        baseline = ResolutionEvaluator(baseline=False).evaluate(
            Sample({"hits": hits}, {"track": track, "expert": of}, {"track": answer})
            for hits, track, of, answer in rows
        )
        values, seconds = train_and_time(scenario)
        for name in ("z_resolution", "theta_resolution"):
            yield f"track trigger, --data.expert {expert}", name, baseline[name], values[f"val_{name}"], seconds


def network_zoo() -> Iterator[Row]:
    """Yield rows of logistic regression on pixels, and of principal components."""
    from sklearn.linear_model import LogisticRegression

    one, other = load_sources(ShapeImages())
    x, v = (source.inputs["image"].reshape(len(source), -1) for source in (one, other))
    accuracy = LogisticRegression(max_iter=300).fit(x, one.targets["label"]).score(v, other.targets["label"])
    for name in CLASSIFIERS:
        values, seconds = train_and_time(NetworkZoo(model=Classifier(architecture=name)))  # type: ignore[arg-type]
        yield f"zoo, Classifier.{name}", "accuracy", accuracy, values["val_accuracy"], seconds
    components = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][: Autoencoder().code]
    centred = v - x.mean(axis=0)
    square = float(np.mean((centred - centred @ components.T @ components) ** 2))
    for name in AUTOENCODERS:
        values, seconds = train_and_time(NetworkZoo(model=Autoencoder(architecture=name)))  # type: ignore[arg-type]
        yield f"zoo, Autoencoder.{name}", "loss", square, values["val_loss"], seconds


SCENARIOS: Mapping[str, Callable[[], Iterator[Row]]] = {
    compared.__name__: compared for compared in (jets, track_trigger, network_zoo)
}


def main() -> None:
    """Print the comparison as a Markdown table."""
    parser = argparse.ArgumentParser(description="Compare the shipped scenarios with simple methods.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(SCENARIOS)}; all by default")
    names = parser.parse_args().names or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"unknown scenario {', '.join(unknown)}; expected one of {', '.join(SCENARIOS)}")
    logging.getLogger("tfaip_like").setLevel(logging.WARNING)
    print("| network | measure | simple method | network | seconds |\n|---|---|---|---|---|")
    for name in names:
        for what, measure, baseline, network, seconds in SCENARIOS[name]():
            print(f"| {what} | {measure} | {baseline:.4g} | {network:.4g} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
