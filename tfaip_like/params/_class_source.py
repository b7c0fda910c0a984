"""Static check, without importing it, that a module defines a `Params` class.

Parameter files may name any module, and importing a module runs it. So a module is imported only if its source shows
that it defines the class and that the class extends one of this package.
"""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec

from tfaip_like._user_code.importing import NoSuchModuleError
from tfaip_like._user_code.trust import is_installed, is_part_of_python
from tfaip_like._utils.errors import UsageError
from tfaip_like.params._base import ParamsBase

_PACKAGE = __name__.partition(".")[0]
_TAG = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_class_in_source(tag: str) -> None:
    """Raise `UsageError` unless the source of a module shows that `module:Class` may be a `Params` class.

    Raises:
        NoSuchModuleError: if the module does not exist.
        UsageError: if `tag` is not `module:Class`, or the class is not a `Params` class.
    """
    if not _TAG.fullmatch(tag):
        raise UsageError("expected module:Class")
    module, _, name = tag.partition(":")
    if module in sys.modules:  # importing it again runs no code
        return
    if find_module(module) is None:
        raise NoSuchModuleError(f"no module named {module!r}")
    if not _may_be_params(module, name, set()):
        raise UsageError(f"{module} has no Params class {name!r}; module not imported")


def _may_be_params(module: str, name: str, seen: set[tuple[str, str]]) -> bool:
    """Return whether a name in a module may be a `Params` class."""
    if module.partition(".")[0] == _PACKAGE:
        return True
    if module in sys.modules:
        member = getattr(sys.modules[module], name, None)
        return isinstance(member, type) and issubclass(member, ParamsBase)
    spec = find_module(module)
    if spec is None or is_part_of_python(spec.origin) or (module, name) in seen:
        return False
    seen.add((module, name))
    is_user_module = not is_installed(spec.origin)
    source = _parse_source(spec)
    if source is None:  # compiled, or with a syntax error that importing it reports
        return is_user_module
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    return _ModuleNames(source, package, is_user_module, seen).may_be_params(name)


class _ModuleNames:
    """Names bound at the top level of a module.

    Args:
        source: syntax tree of the module.
        package: package of the module, to resolve relative imports.
        is_user_module: whether the module is not an installed one; undecidable expressions are then accepted.
        seen: (module, name) pairs already visited, to end cycles.
    """

    def __init__(self, source: ast.Module, package: str, is_user_module: bool, seen: set[tuple[str, str]]):
        self.is_user_module = is_user_module
        self.seen = seen
        self.bound: dict[str, ast.expr | ast.ClassDef | tuple[str, str]] = {}
        """Binding of each name: expression, class, or (module, name in it), with "" for the module itself."""
        self.star_imports: list[str] = []
        for statement in _iter_statements(source.body):
            self._bind(statement, package)

    def _bind(self, statement: ast.stmt, package: str) -> None:
        if isinstance(statement, ast.ClassDef):
            self.bound[statement.name] = statement
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                top = alias.name.partition(".")[0]
                self.bound[alias.asname or top] = (alias.name if alias.asname else top, "")
        elif isinstance(statement, ast.ImportFrom):
            module = "." * statement.level + (statement.module or "")
            if statement.level:
                try:
                    module = importlib.util.resolve_name(module, package)
                except ImportError:
                    return
            for alias in statement.names:
                if alias.name == "*":
                    self.star_imports.append(module)
                else:
                    self.bound[alias.asname or alias.name] = (module, alias.name)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            self.bound |= {target.id: statement.value for target in targets if isinstance(target, ast.Name)}

    def may_be_params(self, name: str) -> bool:
        """Return whether a name, `Class` or `Outer.Inner`, may be a `Params` class."""
        outer, _, inner = name.partition(".")
        binding = self.bound.get(outer)
        if isinstance(binding, ast.ClassDef):
            if not inner:
                return any(self._is_params(base) for base in binding.bases)
            body = _ModuleNames(ast.Module(binding.body, []), "", self.is_user_module, self.seen)
            body.bound = self.bound | body.bound
            return body.may_be_params(inner)
        if isinstance(binding, tuple):
            module, imported = binding
            return bool(imported) and _may_be_params(module, imported, self.seen)
        if binding is not None:
            return self._is_params(binding)
        return any(_may_be_params(module, name, self.seen) for module in self.star_imports)

    def _is_params(self, expression: ast.expr) -> bool:
        """Return whether an expression may be a `Params` class."""
        if isinstance(expression, ast.Subscript):  # Base[int]
            return self._is_params(expression.value)
        if isinstance(expression, ast.Name):
            return self.may_be_params(expression.id)
        path = _dotted_names(expression)
        binding = self.bound.get(path[0]) if path else None
        if path and isinstance(binding, tuple):  # module.Base
            return _may_be_params(".".join(filter(None, [*binding, *path[1:-1]])), path[-1], self.seen)
        return self.is_user_module


def _dotted_names(expression: ast.expr) -> list[str]:
    """Return the names of `a.b.c`; an empty list for other expressions."""
    if isinstance(expression, ast.Name):
        return [expression.id]
    if isinstance(expression, ast.Attribute):
        prefix = _dotted_names(expression.value)
        return [*prefix, expression.attr] if prefix else []
    return []


def _iter_statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, including those nested in `if`, `try` and `with`."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.If, ast.Try, ast.With)):
            for field in ("body", "orelse", "finalbody"):
                yield from _iter_statements(getattr(statement, field, []))
            for handler in getattr(statement, "handlers", []):
                yield from _iter_statements(handler.body)


def find_module(module: str) -> ModuleSpec | None:
    """Find the spec of a module as an import does, but without importing its parent packages."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = _find_in(list(spec.submodule_search_locations), part)
    return spec


def _find_in(folders: Sequence[str], name: str) -> ModuleSpec | None:
    portions: list[str] = []
    for folder in folders:
        finder = pkgutil.get_importer(folder)
        spec = finder.find_spec(name) if finder is not None else None
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None:  # namespace package
            portions += spec.submodule_search_locations or []
    if not portions:
        return None
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace


def _parse_source(spec: ModuleSpec) -> ast.Module | None:
    source = getattr(spec.loader, "get_source", None)
    try:
        text = source(spec.name) if source is not None else None
        return None if text is None else ast.parse(text)
    except (ImportError, SyntaxError, ValueError, OSError):
        return None
