"""The floors of the house: imports go down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tfaip_like"

FLOORS = {
    "authors": 0,
    "batch_layout": 0,
    "code_errors": 0,
    "console": 0,
    "errors": 0,
    "interrupt": 0,
    "files": 0,
    "git": 0,
    "json_files": 0,
    "lazy": 0,
    "memory": 0,
    "output_dir": 0,
    "params": 0,
    "pictures": 0,
    "plain_paths": 0,
    "printable": 0,
    "processes": 0,
    "reasons": 0,
    "records": 0,
    "run_files": 0,
    "sample": 0,
    "temporary": 0,
    "trust": 0,
    "user_code": 0,
    "yaml_files": 0,
    "settings": 1,
    "data": 1,
    "evaluator": 1,
    "evaluators": 1,
    "keras_additions": 1,
    "model": 1,
    "optimizers": 1,
    "schedules": 1,
    "summaries": 1,
    "voter": 1,
    "writer": 1,
    "devices": 2,
    "scenario": 2,
    "image_folders": 2,
    "list_files": 2,
    "scenario_lookup": 2,
    "network": 2,
    "inspection": 3,
    "predict": 3,
    "report": 3,
    "train": 4,
    "experiments": 5,
    "templates": 5,
    "cli": 6,
}
MAY_IMPORT_KERAS = ("network", "predict", "train", "keras_additions")
MAY_USE_A_SIBLING = {
    # what a thing is made of, on the same floor
    ("lazy", "errors"),
    ("console", "errors"),
    ("console", "files"),
    ("console", "printable"),
    ("code_errors", "authors"),
    ("code_errors", "errors"),
    ("console", "authors"),
    ("git", "authors"),
    ("git", "temporary"),
    ("git", "processes"),
    ("plain_paths", "errors"),
    ("user_code", "errors"),
    ("interrupt", "errors"),
    ("params", "authors"),
    ("params", "code_errors"),
    ("params", "user_code"),
    ("files", "errors"),
    ("batch_layout", "errors"),
    ("batch_layout", "json_files"),
    ("output_dir", "batch_layout"),
    ("output_dir", "errors"),
    ("output_dir", "files"),
    ("params", "errors"),
    ("params", "files"),
    ("params", "trust"),
    ("sample", "errors"),
    ("trust", "errors"),
    ("trust", "files"),
    ("user_code", "authors"),
    ("user_code", "code_errors"),
    ("user_code", "reasons"),
    ("user_code", "trust"),
    ("files", "temporary"),
    ("git", "records"),
    ("json_files", "errors"),
    ("json_files", "files"),
    ("json_files", "printable"),
    ("output_dir", "run_files"),
    ("params", "json_files"),
    ("params", "printable"),
    ("params", "yaml_files"),
    ("plain_paths", "temporary"),
    ("records", "errors"),
    ("records", "json_files"),
    ("run_files", "errors"),
    ("run_files", "json_files"),
    ("run_files", "records"),
    ("trust", "json_files"),
    ("trust", "records"),
    ("yaml_files", "errors"),
    ("yaml_files", "json_files"),
    ("yaml_files", "printable"),
    ("optimizers", "keras_additions"),
    ("schedules", "keras_additions"),
    ("list_files", "scenario"),
    ("evaluator", "summaries"),
    ("evaluators", "evaluator"),
    ("evaluators", "summaries"),
    ("model", "summaries"),
    ("scenario_lookup", "scenario"),
}


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


ALL = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]
FILES = [path for path in ALL if part_of(path) != "templates"]  # which are written as users write


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_lower_floors(path: Path) -> None:
    part = part_of(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tfaip_like"):
            names = (node.module or "").split(".")[1:] or [alias.name for alias in node.names]
            other = names[0]
            allowed = other == part or FLOORS[other] < FLOORS[part] or (part, other) in MAY_USE_A_SIBLING
            assert allowed, f"{path.name}, line {node.lineno}: {part} (floor {FLOORS[part]}) imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_keras_and_tensorflow_are_imported_at_module_level_only_where_networks_are(path: Path) -> None:
    if part_of(path) in MAY_IMPORT_KERAS:
        return
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.split(".")[0] in ("keras", "tensorflow", "jax", "torch")]


def test_every_part_has_its_floor() -> None:
    assert {part_of(path) for path in ALL} == set(FLOORS)


def test_no_file_is_longer_than_350_lines() -> None:
    long = {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > 350}
    assert not long, long


def test_import_of_the_package_loads_no_framework_and_leaves_logging_alone() -> None:
    code = (
        "import logging, sys, tfaip_like;"
        "assert not {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules), 'loaded';"
        "assert not logging.getLogger().handlers and not logging.getLogger('tfaip_like').handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
