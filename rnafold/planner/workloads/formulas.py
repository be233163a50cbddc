"""Formulas of workload files: names, numbers, + - * / **, min, max, comparisons; nothing that could do more."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Final

from rnafold.errors import ConfigError

Value = float | bool
_BINARY: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARE: Final[dict[type[ast.cmpop], Callable[[float, float], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {"min": min, "max": max}
MOST_CHARACTERS = 300
MOST_EXPONENT = 64


def compute_formula(text: str, names: Mapping[str, Value], place: str = "formula") -> Value:
    """The value of a formula.

    Args:
        text: an expression; comparisons give True or False; `a if condition else b` chooses.
        names: values of the names in it.
        place: what messages begin with.

    Raises:
        ConfigError: anything but arithmetic, an unknown name, a division by zero, an overflow.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{place}: a formula of {len(text)} characters, expected at most {MOST_CHARACTERS}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigError(f"{place}: {text!r} is no formula") from None
    try:
        value = _evaluate(tree.body, names)
    except ConfigError as error:
        raise ConfigError(f"{place}: {text!r}: {error}") from None
    except ZeroDivisionError:
        raise ConfigError(f"{place}: {text!r} divides by zero with {_show(text, names)}") from None
    except (OverflowError, RecursionError):
        raise ConfigError(f"{place}: {text!r} is too large with {_show(text, names)}") from None
    if isinstance(value, complex) or not math.isfinite(value):
        raise ConfigError(f"{place}: {text!r} gives {value} with {_show(text, names)}")
    return value


def names_in(text: str) -> set[str]:
    """Names that a formula reads, functions left out."""
    found = {node.id for node in ast.walk(ast.parse(text.strip(), mode="eval")) if isinstance(node, ast.Name)}
    return found - _FUNCTIONS.keys()


def _show(text: str, names: Mapping[str, Value]) -> str:
    return ", ".join(f"{name}={names[name]:g}" for name in sorted(names_in(text)) if name in names)


def _evaluate(node: ast.expr, names: Mapping[str, Value]) -> Value:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise ConfigError(f"unknown name {node.id}; known: {', '.join(sorted(names)) or 'none'}")
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _evaluate(node.operand, names)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _evaluate(node.left, names), _evaluate(node.right, names)
        if isinstance(node.op, ast.Pow) and abs(right) > MOST_EXPONENT:
            raise ConfigError(f"an exponent of {right:g}, expected at most {MOST_EXPONENT}")
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.Compare):
        values = [_evaluate(part, names) for part in (node.left, *node.comparators)]
        if all(type(op) in _COMPARE for op in node.ops):
            return all(_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, values, values[1:]))
    if isinstance(node, ast.IfExp):
        return _evaluate(node.body if _evaluate(node.test, names) else node.orelse, names)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in _FUNCTIONS
        and node.args
        and not node.keywords
        and not any(isinstance(a, ast.Starred) for a in node.args)
    ):
        values = [_evaluate(a, names) for a in node.args]
        return float(_FUNCTIONS[node.func.id](*values)) if len(values) > 1 else values[0]
    raise ConfigError(f"{type(node).__name__} is not allowed: only names, numbers, + - * / **, min, max, comparisons")
