"""Blueprints of new scenarios: templates and shipped scenarios, rendered under another name."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import tfaip_like

_PACKAGE_DIR = Path(tfaip_like.__file__).parent
_TEMPLATES_DIR = _PACKAGE_DIR / "_templates"
_SHIPPED_PACKAGES = ("tfaip_like_scenarios", "scenarios")
"""Package of the shipped scenarios: in an installation, and in the repository."""

_OPTIONAL_MODULES = {"sklearn": "scikit-learn"}
"""Modules of the extra `scenarios` -> their distributions."""


@dataclass(frozen=True)
class Blueprint:
    """Files of a scenario that are copied under another name.

    Args:
        texts: file name in the new package -> text.
        class_pattern: regular expression of the name of its scenario class.
        replacements: regular expression -> replacement, in which `{name}` is the new name.
    """

    texts: Mapping[str, str]
    class_pattern: str
    replacements: Mapping[str, str]

    def render(self, name: str) -> dict[str, str]:
        """Return file name -> text, with the names of the new scenario."""
        replacements = {pattern: text.format(name=name) for pattern, text in self.replacements.items()}
        return {
            file: _replace(text, {self.class_pattern: class_name(name), **replacements})
            for file, text in self.texts.items()
        }

    def identifiers(self) -> set[str]:
        """Return all names that its modules define, import or use."""
        return {found for node in self._nodes() for found in _names_in(node)}

    def missing_packages(self) -> list[str]:
        """Return the optional packages that its modules import and that are not installed."""
        modules = {found.partition(".")[0] for node in self._nodes() for found in _imported_modules(node)}
        return [package for module, package in _OPTIONAL_MODULES.items() if module in modules and not _exists(module)]

    def _nodes(self) -> Iterator[ast.AST]:
        for file, text in self.texts.items():
            if file.endswith(".py"):
                yield from ast.walk(ast.parse(text))


def class_name(name: str) -> str:
    """Return the name of the scenario class in a package: `text_lines` -> `TextLines`."""
    return "".join(part.capitalize() for part in name.split("_"))


def template_blueprint(template: str) -> Blueprint:
    """Return the blueprint of a template, in whose files `Template` and `template` stand for the name."""
    texts = {file.name: _read(file) for file in sorted((_TEMPLATES_DIR / template).glob("*.py"))}
    return Blueprint(texts, "Template", {"template": "{name}"})


def shipped_scenarios() -> list[str]:
    """Return the names of the shipped scenarios."""
    modules = (path.stem for path in _shipped_dir().iterdir() if (path / "scenario.py").is_file() or _is_single(path))
    return sorted(modules)


def shipped_blueprint(source: str) -> Blueprint:
    """Return the blueprint of a shipped scenario: its modules, its test and its plan.

    Args:
        source: one of `shipped_scenarios()`.
    """
    shipped = _shipped_dir()
    if (shipped / source).is_dir():
        files = {file.name: file for file in sorted((shipped / source).glob("*.py"))}
        texts = {name: _read(file) for name, file in files.items()}
    else:
        texts = {
            "__init__.py": f'"""Scenario {source}."""\n',
            "scenario.py": _read(shipped / f"{source}.py"),
            "test_scenario.py": _read(shipped / f"test_{source}.py"),
        }
    plan = shipped / "plans" / f"{source}.yaml"
    if plan.exists():
        texts["plan.yaml"] = _read(plan)
    return Blueprint(
        texts,
        rf"\b{_scenario_class(texts['scenario.py'])}\b",
        {
            rf"\bscenarios\.{source}\b": "{name}",
            rf"\bruns/{source}\b": "runs/{name}",
            rf"^from \.{source} import": "from .scenario import",
            rf"^\"\"\"Scenario {source}\.": '"""Scenario {name}.',
        },
    )


def _shipped_dir() -> Path:
    folders = (_PACKAGE_DIR.parent / package for package in _SHIPPED_PACKAGES)
    return next(folder for folder in folders if (folder / "__init__.py").is_file())


def _is_single(path: Path) -> bool:
    """Return whether a file is a scenario with a test next to it."""
    return path.with_name(f"test_{path.name}").is_file()


def _scenario_class(text: str) -> str:
    classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    return next(cls.name for cls in classes if any(ast.unparse(base).endswith("Scenario") for base in cls.bases))


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _replace(text: str, replacements: Mapping[str, str]) -> str:
    for pattern, replacement in replacements.items():
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def _names_in(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name) | ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return [name]
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return [alias.asname or alias.name for alias in names]
    return []


def _imported_modules(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module]
    return []


def _exists(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
