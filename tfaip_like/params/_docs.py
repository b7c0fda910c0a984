"""The help text of a parameter is the string below it, as editors show it."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from pathlib import Path

from tfaip_like.params._base import ParamsBase


@cache
def field_docs(cls: type[ParamsBase]) -> dict[str, str]:
    """Name -> help of the parameters of a class and its bases; the nearest text wins."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if isinstance(base, type) and issubclass(base, ParamsBase) and base is not ParamsBase:
            docs |= _parse_field_docs(base)
    return docs


def class_summary(cls: type) -> str:
    """The first paragraph of a class's docstring, on one line."""
    own = vars(cls).get("__doc__") or ""
    if own.startswith(f"{cls.__name__}("):  # what `dataclass` writes where there is none
        own = ""
    return " ".join(inspect.cleandoc(own).split("\n\n")[0].split())


def _parse_field_docs(cls: type[ParamsBase]) -> dict[str, str]:
    module = sys.modules.get(cls.__module__)
    source = getattr(module, "__file__", None)
    definition = _class_definitions(source).get(cls.__qualname__) if source else None
    if definition is None:
        return {}
    docs = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        name = _assigned_name(statement)
        text = _string_literal(following)
        if name and text is not None:
            docs[name] = " ".join(text.split())
    return docs


def _string_literal(statement: ast.stmt) -> str | None:
    """The text of a statement that is nothing but a string."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return value if isinstance(value, str) else None
    return None


def _assigned_name(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return None


@cache
def _class_definitions(source_file: str) -> dict[str, ast.ClassDef]:
    """Qualified name -> definition of each class of a source file."""
    try:
        tree = ast.parse(Path(source_file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}
    found: dict[str, ast.ClassDef] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                found[prefix + child.name] = child
                visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                visit(child, f"{prefix}{child.name}.<locals>.")
            else:
                visit(child, prefix)

    visit(tree, "")
    return found
