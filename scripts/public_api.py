"""Write docs/reference/public-api.md from `__all__` and the docstrings: python scripts/public_api.py."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import FunctionType, ModuleType

import tfaip_like

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "public-api.md"

INTRODUCTION = """# Public API

Import these names from the package under whose heading they are. Everything below a name that begins with an underscore
is private and may change without notice. The docstrings (`help(tfaip_like.Data)`) describe parameters and
errors, and have examples.
"""


def public_modules() -> Iterator[ModuleType]:
    """Yield the package and its public subpackages and modules, in the order of their names."""
    yield tfaip_like
    for module in pkgutil.iter_modules(tfaip_like.__path__):
        if not module.name.startswith("_"):
            yield importlib.import_module(f"tfaip_like.{module.name}")


@cache
def documented_assignments() -> dict[str, str]:
    """Return the strings below assignments at module level, by the assigned name."""
    found = {}
    for path in sorted(Path(tfaip_like.__path__[0]).rglob("*.py")):
        body = ast.parse(path.read_text()).body
        for node, following in pairwise(body):
            if (
                isinstance(node, ast.Assign | ast.AnnAssign)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                found[ast.unparse(target)] = str(following.value.value)
    return found


def summary(name: str, value: object) -> str:
    """Return the first paragraph of the docstring of a class or function, or the string below an assignment."""
    documented = value if isinstance(value, type | FunctionType) else type(value)
    text = documented_assignments().get(name) or inspect.cleandoc(documented.__doc__ or "")
    return text.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def section(module: ModuleType) -> str:
    """Return the heading of a module and the table of its names."""
    first_line = (module.__doc__ or "").splitlines()[0]
    rows = [f"| `{name}` | {summary(name, getattr(module, name))} |" for name in module.__all__]
    return "\n".join([f"## {module.__name__}", "", first_line, "", "| name | |", "|---|---|", *rows, ""])


def page() -> str:
    """Return the text of the page."""
    return "\n".join([INTRODUCTION, *map(section, public_modules())])


if __name__ == "__main__":
    PAGE.write_text(page())
