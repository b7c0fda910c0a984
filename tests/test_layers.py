"""The architecture: layers, no import cycles, no framework where it is not needed, and the public names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tfaip_like.data import Pipeline
from tfaip_like.params._base import ParamsBase, qualified_name
from tfaip_like.params._variants import is_abstract

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tfaip_like"

LAYERS = (  # from the bottom; modules of one layer may import each other
    ("_utils", "_version"),
    ("_user_code",),
    ("params",),
    ("_runs",),
    ("settings",),
    ("summaries",),
    ("data",),
    ("_keras_ext",),
    ("optimizers", "schedules"),
    ("modeling",),
    ("evaluation",),
    ("callbacks", "exporters", "loggers"),
    ("scenario", "list_files", "_scenario_lookup"),
    ("_export",),
    ("inference",),
    ("_report",),
    ("_training",),
    ("_inspection",),
    ("experiments",),
    ("_templates",),
    ("_commands",),
    ("_cli",),
)
LAYER_OF = {part: number for number, parts in enumerate(LAYERS) for part in parts}

USE_KERAS = (
    "_keras_ext",
    "_export",
    "_training",
    "evaluation._bad_values",
    "evaluation._output_metrics",
    "modeling._activation_network",
    "modeling._keras_calls",
    "modeling._network",
)
"""May import Keras or TensorFlow at module level; all else starts without them."""

FRAMEWORKS = {"tensorflow", "keras", "jax", "torch"}


def module_name(path: Path) -> str:
    """Return the dotted name of a file below the package, without the package: `data._loader.sampler`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"}
OURS = {name: path for name, path in MODULES.items() if not name.startswith("_templates.")}
"""All but the templates, which are written as users write."""


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the module of each import of ours, those for types included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tfaip_like":
            package = ".".join((node.module or "").split(".")[1:])
            for alias in node.names:
                inner = f"{package}.{alias.name}".lstrip(".")
                yield node.lineno, inner if inner in MODULES else package


@pytest.mark.parametrize("name", OURS)
def test_a_module_imports_only_from_its_own_layer_and_those_below(name: str) -> None:
    layer = LAYER_OF[name.split(".")[0]]
    for line, imported in imports_of(OURS[name]):
        assert LAYER_OF[imported.split(".")[0]] <= layer, f"{name}, line {line} imports {imported}"


IMPLEMENTATIONS = tuple(
    f"experiments.launchers.{name}" for name in ("_local_queue", "_scheduler", "_slurm", "_cluster")
)


def test_commands_and_experiments_reach_machines_through_the_interface_of_launchers_only() -> None:
    for name, path in OURS.items():
        if name.startswith(("experiments", "_cli")) and not name.startswith("experiments.launchers"):
            assert not [imported for _, imported in imports_of(path) if imported.startswith(IMPLEMENTATIONS)], name


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: {imported for _, imported in imports_of(path)} - {name} for name, path in OURS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("name", OURS)
def test_frameworks_are_imported_at_module_level_only_where_networks_are(name: str) -> None:
    if name.startswith(USE_KERAS):
        return
    for node in ast.parse(OURS[name].read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.split(".")[0] in FRAMEWORKS]


def test_every_module_has_a_layer_and_few_lie_at_the_top() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(LAYER_OF)
    assert len(list(PACKAGE.glob("*.py"))) <= 5


def test_no_file_is_longer_than_400_lines() -> None:
    long = {name: lines for name, path in OURS.items() if (lines := len(path.read_text().splitlines())) > 400}
    assert not long, long


def test_import_of_the_package_loads_no_framework_and_leaves_logging_alone() -> None:
    code = (
        "import logging, sys, tfaip_like;"
        "assert not {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules), 'loaded';"
        "assert not logging.getLogger().handlers and not logging.getLogger('tfaip_like').handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def is_public(module: str) -> bool:
    """Return whether no part of a dotted name begins with an underscore."""
    return not any(part.startswith("_") for part in module.split("."))


PUBLIC = ["", *(name for name in MODULES if is_public(name))]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_lists_its_names_which_all_exist(name: str) -> None:
    module = importlib.import_module(f"tfaip_like.{name}".rstrip("."))
    assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for public in module.__all__:
        assert hasattr(module, public), public


COMMAND_LAYERS = ("_inspection", "experiments", "_cli")
"""Define the options of commands, which no file stores."""


def test_files_name_classes_by_public_modules_which_do_not_move() -> None:
    for name in OURS:
        importlib.import_module(f"tfaip_like.{name}".rstrip("."))
    classes, pending = set[type](), [ParamsBase]
    while pending:
        pending += (subclasses := pending.pop().__subclasses__())
        classes |= {cls for cls in subclasses if cls is Pipeline or not is_abstract(cls)}
    # Examples of docstrings, which another test runs, define classes that are not in their module.
    found = {cls for cls in classes if getattr(sys.modules[cls.__module__], cls.__name__, None) is cls}
    ours = {cls for cls in found if cls.__module__.startswith("tfaip_like.")}
    stored = {qualified_name(cls) for cls in ours if cls.__module__.split(".")[1] not in COMMAND_LAYERS}
    assert "tfaip_like.data:Pipeline" in stored
    assert "tfaip_like.optimizers:AdamW" in stored
    assert not [tag for tag in stored if not is_public(tag.partition(":")[0])]


COPIED = [
    *sorted((ROOT / "scenarios").rglob("*.py")),
    *(path for name, path in MODULES.items() if name.startswith("_templates.")),
]
"""What users read and copy."""


@pytest.mark.parametrize("path", COPIED, ids=lambda path: str(path.relative_to(ROOT)))
def test_scenarios_import_public_names_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tfaip_like":
            assert is_public(node.module or ""), f"line {node.lineno}: {node.module}"
            exported = importlib.import_module(node.module or "").__all__
            for alias in node.names:
                assert alias.name in exported, f"line {node.lineno}: {alias.name}"
