"""Mappings into frozen dataclasses by their type hints: nothing unknown, missing or mistyped passes.

A config dataclass may check ranges in `__post_init__` by `raise ValueError("field: message")`, "field" also
a dotted key below it; `build` adds the file, the line and the full dotted key.
"""

import dataclasses
import difflib
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rnafold.errors import ConfigError

T = TypeVar("T")


class Section(dict[str, Any]):
    """A mapping that remembers where each of its keys was written.

    Attributes:
        origins: key -> "file:line" or the `--set` text.
    """

    def __init__(self, items: Mapping[str, Any] | None = None, origins: Mapping[str, str] | None = None) -> None:
        super().__init__(items or {})
        self.origins: dict[str, str] = dict(origins or {})


def build(cls: type[T], mapping: Mapping[str, Any], source: str = "configuration") -> T:
    """Builds a frozen dataclass, nested ones included, from a mapping; nothing unknown, missing or mistyped passes.

    Field types: int, float (takes an int), bool, str, `X | None` and other unions, tuple[X, ...], Literal, dict[str, X]
    and dataclasses.

    Args:
        cls: the dataclass.
        mapping: from `load_yaml`, `load_named`, `merge` or `apply_overrides`.
        source: named in messages for keys that do not know their own file.

    Raises:
        ConfigError: one line with file, line, dotted key, what was found and what was expected.
    """
    return _Builder(cls, source).section(cls, mapping, "", source)  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True)
class _Builder:
    root: type
    source: str

    def section(self, cls: type, mapping: Mapping[str, Any], prefix: str, place: str) -> Any:
        """Builds one dataclass; `place` is where the section itself was written."""
        origins: Mapping[str, str] = getattr(mapping, "origins", {})
        hints = get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        for name in mapping:
            if name not in fields:
                where, hint = origins.get(name, place), self._hint(name, prefix, list(fields))
                raise ConfigError(f"{where}: {_join(prefix, name)}: unknown key{hint}")
        missing = [_join(prefix, name) for name, field in fields.items() if name not in mapping and _is_required(field)]
        if missing:
            raise ConfigError(f"{place}: missing {_count(missing, 'key')}")
        values = {
            name: self.value(hints[name], value, _join(prefix, name), origins.get(name, place))
            for name, value in mapping.items()
        }
        try:
            return cls(**values)
        except ValueError as error:
            head, colon, tail = str(error).partition(": ")
            if colon and head.split(".")[0] in fields:
                raise ConfigError(f"{_find_place(mapping, head, place)}: {_join(prefix, head)}: {tail}") from None
            raise ConfigError(f"{place}: {prefix + ': ' if prefix else ''}{error}") from None

    def value(self, expected: Any, value: Any, key: str, place: str) -> Any:
        """Checks one value against one type; a list becomes a tuple, an int a float where a float is expected."""
        origin, arguments = get_origin(expected), get_args(expected)
        if origin in (Union, types.UnionType):
            return self._union(arguments, value, key, place)
        if dataclasses.is_dataclass(expected) and isinstance(expected, type) and isinstance(value, Mapping):
            return self.section(expected, value, key, place)
        if origin is tuple and isinstance(value, (list, tuple)):
            return tuple(self.value(arguments[0], item, f"{key}[{i}]", place) for i, item in enumerate(value))
        if origin is dict and isinstance(value, Mapping):
            places: Mapping[str, str] = getattr(value, "origins", {})
            return {k: self.value(arguments[1], v, _join(key, k), places.get(k, place)) for k, v in value.items()}
        if expected is Any or _is_scalar(expected, value):
            return float(value) if expected is float else value
        near = _did_you_mean(value, arguments) if origin is Literal and isinstance(value, str) else ""
        raise ConfigError(f"{place}: {key}: found {describe_value(value)}, expected {_name_type(expected)}{near}")

    def _union(self, options: Sequence[Any], value: Any, key: str, place: str) -> Any:
        nested = [option for option in options if _is_container(option, value)]
        if nested:
            # Goes into the only option of that shape, so that the message names the key at fault inside it.
            return self.value(nested[0], value, key, place)
        for option in options:
            if option is not float and _is_scalar(option, value):
                return value
        if float in options and _is_scalar(float, value):
            return float(value)
        expected = " or ".join(_name_type(option) for option in options)
        literals = [name for option in options if get_origin(option) is Literal for name in get_args(option)]
        near = _did_you_mean(value, literals) if isinstance(value, str) else ""
        raise ConfigError(f"{place}: {key}: found {describe_value(value)}, expected {expected}{near}")

    def _hint(self, name: str, prefix: str, siblings: list[str]) -> str:
        near = difflib.get_close_matches(name, siblings, n=1)
        if near:
            return f"; did you mean {_join(prefix, near[0])}?"
        everywhere = list(_list_keys(self.root, ""))
        last = {key.rpartition(".")[2]: key for key in reversed(everywhere)}
        near = difflib.get_close_matches(name, last, n=1, cutoff=0.75)
        known = f"; known here: {', '.join(siblings)}" if siblings else ""
        return f"; did you mean {last[near[0]]}?" if near else known


def _find_place(mapping: Any, key: str, place: str) -> str:
    """Where a dotted key below `mapping` was written; the nearest section that was, where the key itself was not."""
    for name in key.split("."):
        place = getattr(mapping, "origins", {}).get(name, place)
        mapping = mapping.get(name) if isinstance(mapping, Mapping) else None
    return place


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_container(expected: Any, value: Any) -> bool:
    if isinstance(value, Mapping):
        return get_origin(expected) is dict or dataclasses.is_dataclass(expected)
    return isinstance(value, (list, tuple)) and get_origin(expected) is tuple


def _is_scalar(expected: Any, value: Any) -> bool:
    if get_origin(expected) is Literal:
        return any(type(option) is type(value) and option == value for option in get_args(expected))
    if expected is float:
        return type(value) in (int, float) and not math.isnan(value)
    if expected in (None, types.NoneType):
        return value is None
    return expected in (int, bool, str) and type(value) is expected


def _list_keys(cls: Any, prefix: str) -> Iterator[str]:
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key = _join(prefix, field.name)
        yield key
        for option in (hints[field.name], *get_args(hints[field.name])):
            if isinstance(option, type) and dataclasses.is_dataclass(option):
                yield from _list_keys(option, key)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _count(names: Sequence[str], noun: str) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"


def describe_value(value: Any) -> str:
    """What a message calls a value that a config file or `--set` gave: its kind and, shortened, itself."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return f"a section ({_count(list(value), 'key')})" if value else "an empty section"
    words = {bool: "true/false", int: "the whole number", float: "the number", str: "the text"}
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    shown = repr(value) if isinstance(value, str) else str(value)
    return f"{words.get(type(value), type(value).__name__)} {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _name_type(expected: Any) -> str:
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Literal:
        return "one of " + ", ".join(str(option) for option in arguments)
    if origin is tuple:
        return f"a list, each {_name_type(arguments[0])}"
    if origin is dict:
        return f"a section, each value {_name_type(arguments[1])}"
    if dataclasses.is_dataclass(expected):
        return "a section (" + ", ".join(field.name for field in dataclasses.fields(expected)) + ")"
    if origin in (Union, types.UnionType):
        return " or ".join(_name_type(option) for option in arguments)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", types.NoneType: "null"}
    return words.get(expected, str(expected))


def _did_you_mean(name: str, known: Iterable[Any]) -> str:
    near = difflib.get_close_matches(name, [str(option) for option in known], n=1)
    return f"; did you mean {near[0]}?" if near else ""
