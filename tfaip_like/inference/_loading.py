"""Loading of predictors from export directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfaip_like._export.exported_model import load_export
from tfaip_like._export.layout import resolve_export_dir
from tfaip_like._export.pipeline import is_same_pipeline, load_pipeline
from tfaip_like._runs.fetching import fetch_exports
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.errors import UsageError
from tfaip_like.data import Pipeline
from tfaip_like.inference._experts import ExpertsPredictor, read_expert_exports
from tfaip_like.inference._predictor import Predictor
from tfaip_like.modeling._voting import Voter


def load_predictor(
    *exports: Path | str, voter: Voter | None = None, pipeline: Pipeline | None = None, trust_code: bool = False
) -> Predictor:
    """Return a predictor for one export, an ensemble of exports, or a directory of experts.

    Args:
        exports: Export directories; run directories, whose best model is used; or one directory of experts.
        voter: Rule that combines the outputs of several networks; `Mean` by default.
        pipeline: Pipeline to use instead of that of the exports.
        trust_code: Run code and graphs in these directories even if another user wrote them.

    Raises:
        UsageError: If a directory is not a complete export, or the exports have different pipelines.

    Example::

        predictor = load_predictor("runs/tutorial")
        predictor.one({"image": image}).outputs["class"]
    """
    if not exports:
        raise UsageError("missing export: pass at least one export directory")
    paths = [fetch_exports(path) for path in exports]
    experts = read_expert_exports(paths[0]) if len(paths) == 1 else None
    with allow_untrusted_code(trust_code):
        if experts is None:
            return _load([resolve_export_dir(path) for path in paths], voter, pipeline)
        pipeline = pipeline or _common_pipeline(list(experts.values()))
        return ExpertsPredictor({name: _load([path], voter, pipeline) for name, path in experts.items()}, pipeline)


def _load(paths: Sequence[Path], voter: Voter | None, pipeline: Pipeline | None) -> Predictor:
    pipeline = pipeline or _common_pipeline(paths)
    loaded = [load_export(path) for path in paths]
    for exported in loaded:
        missing = sorted(exported.inputs.keys() - pipeline.inputs.keys())
        if missing:
            raise UsageError(
                f"{exported.path}: the network requires input {missing[0]!r}, but that of {paths[0]} does not"
            )
    return Predictor(loaded, pipeline, voter)


def _common_pipeline(paths: Sequence[Path]) -> Pipeline:
    first, *others = (load_pipeline(path) for path in paths)
    for path, other in zip(paths[1:], others, strict=True):
        if not is_same_pipeline(first, other):
            raise UsageError(f"{path}: cannot combine with {paths[0]}: their pipelines differ")
    return first
