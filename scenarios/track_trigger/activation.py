"""Activations as expressions: `tanh`, `tanh/2`, `tanh(x/2)`, `2*sigmoid - 1`."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

ACTIVATION_NAMES = (
    "tanh",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "sigmoid",
    "hard_sigmoid",
    "hard_tanh",
    "softsign",
    "softplus",
)
"""Functions of `keras.activations` allowed in expressions."""

Functions: TypeAlias = Mapping[str, Callable[[Any], Any]]
Expression: TypeAlias = Callable[[Any, Functions], Any]
"""Function of x and of the activations by name."""

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

_ALLOWED = "expected numbers, x, functions of one argument, + - * / and parentheses, such as tanh(x/2)"


def parse_activation(text: str) -> Expression:
    """Return the function of an expression of numbers, functions, `x` and + - * / ( ).

    A function name without argument means its value at x: `tanh/2` halves tanh(x), `tanh(x/2)` halves x.

    Raises:
        ValueError: if the expression is invalid, with the reason.

    Example:
        >>> import math
        >>> parse_activation("tanh/2")(0.5, {"tanh": math.tanh}) == math.tanh(0.5) / 2
        True
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"syntax error in {text!r}; {_ALLOWED}") from None
    if not any(isinstance(node, ast.Name) for node in ast.walk(tree)):
        raise ValueError(f"{text!r} is a constant, not a function of x; {_ALLOWED}")
    return _expression(tree)


def _expression(node: ast.expr) -> Expression:
    match node:
        case ast.Name(id="x"):
            return lambda x, functions: x
        case ast.Name(id=name):
            _check_name(name)
            return lambda x, functions: functions[name](x)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
            _check_name(name)
            inner = _expression(argument)
            return lambda x, functions: functions[name](inner(x, functions))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            first, second, compute = _expression(left), _expression(right), _OPERATORS[type(op)]
            return lambda x, functions: compute(first(x, functions), second(x, functions))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            negated = _expression(operand)
            return lambda x, functions: -negated(x, functions)
        case ast.Constant(value=number) if type(number) in (int, float):
            return lambda x, functions: number
    raise ValueError(f"unsupported expression {ast.unparse(node)!r}; {_ALLOWED}")


def _check_name(name: str) -> None:
    if name not in ACTIVATION_NAMES:
        raise ValueError(f"unknown function {name!r}; expected x or one of {', '.join(ACTIVATION_NAMES)}")
