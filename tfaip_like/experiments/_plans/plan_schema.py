"""JSON Schema of plan files, for editors that complete and check them."""

from __future__ import annotations

import yaml

from tfaip_like.experiments._plans.configuration import Distribution
from tfaip_like.params._base import ParamsBase
from tfaip_like.params._docs import field_docs
from tfaip_like.params._schema import DIALECT, Definitions, Schema
from tfaip_like.params._tree import Leaf, iter_leaves
from tfaip_like.params._types import sequence_item_type

TEXT_SCHEMA: Schema = {"type": "string"}
TEXT_LIST_SCHEMA: Schema = {"anyOf": [TEXT_SCHEMA, {"type": "array", "items": TEXT_SCHEMA}]}
DOTTED_FLAG_PATTERN = r"\."
"""Pattern of flags of non-default variants, which only the command can validate."""


def plan_schema(tree: ParamsBase) -> Schema:
    """Return the JSON Schema of plans for a scenario.

    Flags may be nested (`trainer: {epochs: 3}`) or dotted (`trainer.epochs: 3`), as in the plan itself.

    Args:
        tree: scenario with its default parameters.

    Returns:
        The schema as JSON values (dicts, lists, strings, numbers).
    """
    definitions = Definitions()
    flags = {leaf.flag.removeprefix("--"): _flag_schema(definitions, leaf) for leaf in iter_leaves(tree)}
    nested = definitions.object_schema(type(tree), tree)["properties"]
    distribution = {
        "type": "object",
        "properties": {kind: {"type": "array", "minItems": 1} for kind in Distribution.KINDS},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    of_flags = {**nested, **flags}
    definitions.schemas |= {
        "flags": _object_schema(of_flags),
        "grid": _object_schema({name: {"anyOf": [{"type": "array"}, {"type": "object"}]} for name in of_flags}),
        "draws": _object_schema({name: {"anyOf": [distribution, {"type": "object"}]} for name in of_flags}),
    }
    configuration = {
        "type": ["object", "null"],
        "properties": {**of_flags, **_configuration_properties()},
        "patternProperties": {DOTTED_FLAG_PATTERN: {}},
        "additionalProperties": False,
    }
    return {
        "$schema": DIALECT,
        "title": f"Plan of experiments with {type(tree).__name__}",
        "type": "object",
        "required": ["scenario"],
        "anyOf": [{"required": ["configurations"]}, {"required": ["models"]}],
        "properties": {
            "scenario": _text_schema("Scenario to train: pkg.module, pkg.module:Class or the path of a file."),
            "description": _text_schema("Purpose of the batch."),
            "compare_to": _text_schema("Run or batch directory to compare with."),
            "names": _text_schema('Template of run names: "{configuration}_{learning_rate.lr}".'),
            "common": _reference_schema("flags", "Flags of all configurations."),
            "configurations": {
                "type": "object",
                "description": "Named configurations.",
                "additionalProperties": configuration,
            },
            "models": {"type": "object", "description": "Number of runs of each class.architecture."},
            "run": {
                **TEXT_LIST_SCHEMA,
                "description": "Configurations to run; by default all that are not abstract.",
            },
        },
        "additionalProperties": False,
        "$defs": definitions.schemas,
    }


def _configuration_properties() -> Schema:
    """Return the schemas of the keys of a configuration that are not flags."""
    return {
        "extends": {**TEXT_LIST_SCHEMA, "description": "Base configurations; later ones take precedence."},
        "version": {"description": "Version of the configuration, such as 2 or 1.1."},
        "abstract": {"type": "boolean", "description": "Serves as a base only; has no runs.", "default": False},
        "grid": _reference_schema("grid", "Flags with lists of values; each combination is a run."),
        "list": {
            "type": "array",
            "items": {"$ref": "#/$defs/flags"},
            "description": "Sets of flags; each set is a run.",
        },
        "random": {
            "type": "object",
            "description": "Flags with random values.",
            "required": ["draws", "values"],
            "properties": {
                "draws": {"type": "integer", "minimum": 1, "description": "Number of runs."},
                "seed": {"type": "integer", "minimum": 0, "description": "Seed of the draws.", "default": 1},
                "values": _reference_schema("draws", "Distribution of each flag: {uniform: [0, 0.5]}."),
            },
            "additionalProperties": False,
        },
        "repeat": {
            "type": "integer",
            "minimum": 1,
            "description": "Number of repetitions of each run with different seeds.",
        },
        "experts": {
            "type": "array",
            "items": {"type": ["string", "number"]},
            "minItems": 1,
            "description": "Names of experts; each run is trained once per expert.",
        },
        "expert_flag": _text_schema("Flag that takes the name of the expert; data.expert by default."),
        "for_expert": {
            "type": "object",
            "additionalProperties": {"$ref": "#/$defs/flags"},
            "description": "Flags for single experts.",
        },
    }


def _flag_schema(definitions: Definitions, leaf: Leaf) -> Schema:
    """Return the schema of the value of a flag; a list with one item may be written as the item."""
    schema = _accept_unquoted(definitions.value_schema(leaf.type, leaf.value))
    if (item_type := sequence_item_type(leaf.type)) is not None:
        schema = {"anyOf": [schema, _accept_unquoted(definitions.value_schema(item_type))]}
    text = field_docs(leaf.owner).get(leaf.path[-1])
    return {**schema, "description": text} if text else schema


def _accept_unquoted(schema: Schema) -> Schema:
    """Return a schema that also accepts unquoted strings, which YAML reads as numbers or booleans."""
    if schema == TEXT_SCHEMA:
        return {"type": ["string", "number", "boolean"]}
    if choices := schema.get("enum"):
        return {"enum": [*choices, *(word for word in map(yaml.safe_load, map(str, choices)) if word not in choices)]}
    return schema


def _object_schema(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": {DOTTED_FLAG_PATTERN: {}},
        "additionalProperties": False,
    }


def _reference_schema(name: str, description: str) -> Schema:
    return {"$ref": f"#/$defs/{name}", "description": description}


def _text_schema(description: str) -> Schema:
    return {**TEXT_SCHEMA, "description": description}
