"""Strict YAML into frozen dataclasses: what a file says is used, or refused with file, line, key and what was meant.

The scalars follow YAML 1.2: `1e-3` is a number; `no`, `off` and `12:30` are text, not what YAML 1.1 makes of them; only
`true` and `false` are booleans.
"""

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from rnafold.config.building import Section, build, describe_value
from rnafold.errors import ConfigError

T = TypeVar("T")

__all__ = [
    "ConfigError",
    "Section",
    "apply_overrides",
    "build",
    "config_directory",
    "dump",
    "list_names",
    "load_named",
    "load_yaml",
    "merge",
    "parse_yaml",
    "resolve",
    "to_mapping",
]

_TAG: Final = "tag:yaml.org,2002:"
# More than any configuration has; anchors of anchors would unfold without end.
_MOST_BYTES: Final = 4 << 20
_MOST_NODES: Final = 100_000
_RESOLVERS: Final = (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?[0-9]{1,300}", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.inf|\.nan", list("-+.")),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - emptied on purpose: the YAML 1.1 rules are the trap


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML version would read as something else than text."""


for _name, _pattern, _first in _RESOLVERS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


def _represent_sequence(dumper: yaml.SafeDumper, items: Sequence[Any]) -> yaml.Node:
    plain = not any(isinstance(item, (dict, list, tuple)) for item in items)
    return dumper.represent_sequence(_TAG + "seq", items, flow_style=plain)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # Only double quotes keep every line break: inside single ones a NEL (x85) comes back as a blank.
    return dumper.represent_scalar(_TAG + "str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(list, _represent_sequence)
_Dumper.add_representer(str, _represent_text)


def load_yaml(path: Path | str) -> Section:
    """Reads one YAML file whose top level is a mapping.

    Raises:
        ConfigError: the file is absent, unreadable, empty, no YAML, or repeats a key.
    """
    path = Path(path)
    shown = _shorten(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{shown}: larger than {_MOST_BYTES >> 20} MiB, expected a configuration")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{shown}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{shown}: cannot be read as text: {' '.join(str(error).split())}") from None
    value = parse_yaml(text, shown)
    if not isinstance(value, Section):
        raise ConfigError(f"{shown}: found {describe_value(value)}, expected keys with values")
    return value


def parse_yaml(text: str, source: str, *, with_lines: bool = True) -> Any:
    """Parses YAML text by the strict rules of this module; mappings come back as `Section`.

    Args:
        text: one YAML document.
        source: what messages name.
        with_lines: whether messages add the line number to `source`.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _Reader(source, with_lines).read(node, "", ())
    except RecursionError:
        raise ConfigError(f"{source}: nested beyond reason") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None and with_lines else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{source}{line}: not valid YAML: {problem}") from None


@dataclasses.dataclass(frozen=True)
class _Reader:
    source: str
    with_lines: bool
    num_read: list[int] = dataclasses.field(default_factory=lambda: [0])

    def place(self, node: yaml.Node) -> str:
        return f"{self.source}:{node.start_mark.line + 1}" if self.with_lines else self.source

    def read(self, node: yaml.Node, key: str, parents: tuple[yaml.Node, ...]) -> Any:
        if any(node is parent for parent in parents):
            raise ConfigError(f"{self.place(node)}: {key}: an anchor that contains itself")
        self.num_read[0] += 1
        if self.num_read[0] > _MOST_NODES:  # anchors of anchors
            raise ConfigError(f"{self.place(node)}: {key}: more than {_MOST_NODES:,} values")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._read_mapping(node, key, (*parents, node))
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.read(item, f"{key}[{i}]", (*parents, node)) for i, item in enumerate(node.value)]
        # Compared with the tag that the text itself has, so that explicit tags such as !!int are refused.
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if isinstance(node, yaml.ScalarNode) and node.tag == (_resolve(node.value) if plain else _TAG + "str"):
            return _SCALARS[node.tag.removeprefix(_TAG)](node.value)
        raise ConfigError(
            f"{self.place(node)}: {key or 'top level'}: found the YAML tag {node.tag.replace(_TAG, '!!')}, "
            "expected plain values"
        )

    def _read_mapping(self, node: yaml.MappingNode, prefix: str, parents: tuple[yaml.Node, ...]) -> Section:
        section, lines = Section(), dict[str, int]()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                found = getattr(key_node, "value", "") if isinstance(key_node, yaml.ScalarNode) else "a collection"
                raise ConfigError(
                    f"{self.place(key_node)}: {prefix or 'top level'}: found the key {found}, expected text (quote it)"
                )
            name = key_node.value
            dotted = f"{prefix}.{name}" if prefix else name
            if name in section:
                raise ConfigError(f"{self.place(key_node)}: {dotted}: key given twice, first on line {lines[name]}")
            section[name] = self.read(value_node, dotted, parents)
            section.origins[name] = self.place(key_node)
            lines[name] = key_node.start_mark.line + 1
        return section


def _resolve(text: str) -> str:
    return next((_TAG + name for name, pattern, _ in _RESOLVERS if re.fullmatch(pattern, text)), _TAG + "str")


_SCALARS: Final[dict[str, Callable[[str], Any]]] = {
    "str": str,
    "int": int,
    "float": lambda text: float(text.replace(".inf", "inf").replace(".nan", "nan")),
    "bool": lambda text: text == "true",
    "null": lambda text: None,
}


def _shorten(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def merge(*mappings: Mapping[str, Any]) -> Section:
    """Joins mappings, sections within sections, the later winning; every key keeps the place where it was written."""
    merged = Section()
    for mapping in mappings:
        for name, value in mapping.items():
            old = merged.get(name)
            if isinstance(value, Mapping):
                value = merge(old, value) if isinstance(old, Mapping) else merge(value)
            merged[name] = value
            origin = getattr(mapping, "origins", {}).get(name)
            merged.origins.pop(name, None)
            if origin is not None:
                merged.origins[name] = origin
    return merged


def apply_overrides(mapping: Mapping[str, Any], overrides: Sequence[str]) -> Section:
    """Returns a copy of `mapping` with each `a.b=value` put in; values by the same YAML rules as the files.

    Unknown keys are refused where the result is built, like those of a file.

    Raises:
        ConfigError: no `=`, no key, a value that is no YAML, or a key below something that is not a section.
    """
    result = merge(mapping)
    for text in overrides:
        key, equals, value = text.partition("=")
        place, names = f"--set {text}", key.strip().split(".")
        if not equals or not all(names):
            raise ConfigError(f"{place}: expected key=value, such as train.epochs=3")
        section = result
        for depth, name in enumerate(names[:-1]):
            if section.get(name) is None:  # absent, or an optional section that is switched off
                section[name], section.origins[name] = Section(), place
            inner = section[name]
            if not isinstance(inner, Section):
                raise ConfigError(
                    f"{place}: {'.'.join(names[: depth + 1])} holds {describe_value(inner)}, not a section"
                )
            section = inner
        section[names[-1]] = parse_yaml(value, place, with_lines=False)
        section.origins[names[-1]] = place
    return result


def resolve(
    cls: type[T], mappings: Sequence[Mapping[str, Any]], overrides: Sequence[str] = (), source: str = "configuration"
) -> T:
    """Merges the mappings (later wins), puts the `--set` overrides on top, and builds `cls` from the result."""
    return build(cls, apply_overrides(merge(*mappings), overrides), source)


def to_mapping(config: Any) -> dict[str, Any]:
    """A config dataclass as plain dicts, lists and scalars, fields in the order of the class."""
    return {field.name: _to_plain(getattr(config, field.name)) for field in dataclasses.fields(config) if field.init}


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, Mapping):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_plain(item) for item in value]
    return value


def dump(config: Any) -> str:
    """A config dataclass (or mapping) as YAML text that `parse_yaml` and `build` turn back into an equal object."""
    plain = _to_plain(config)
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)


def config_directory() -> Path:
    """Where the shipped YAML files lie: $RNAFOLD_CONFIGS, else the checkout's configs/, else the installed package's.

    Raises:
        ConfigError: $RNAFOLD_CONFIGS is no directory, or the installation holds no config files.
    """
    chosen = os.environ.get("RNAFOLD_CONFIGS")
    if chosen:
        if not Path(chosen).is_dir():
            raise ConfigError(f"RNAFOLD_CONFIGS={chosen}: no such directory")
        return Path(chosen)
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "configs"
    if checkout.is_dir() and (package.parent / "pyproject.toml").is_file():
        return checkout
    if (package / "_configs").is_dir():
        return package / "_configs"
    raise ConfigError(f"{package / '_configs'}: no such directory; install rnafold again or set RNAFOLD_CONFIGS")


def list_names(group: str) -> list[str]:
    """The names that `load_named` knows in a group ("gpu", "model", "workloads"), sorted."""
    return sorted(path.stem for path in (config_directory() / group).glob("*.yaml"))


def load_named(group: str, name: str) -> Section:
    """Loads `configs/GROUP/NAME.yaml`, or the file itself where `name` ends in .yaml or .yml.

    Raises:
        ConfigError: an unknown name, with the name meant and all that are known.
    """
    if name.endswith((".yaml", ".yml")):
        return load_yaml(name)
    known = list_names(group)
    if name in known:
        return load_yaml(config_directory() / group / f"{name}.yaml")
    word = group.upper() if group == "gpu" else group
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    meant = f": did you mean {near[0]}?" if near else ":"
    raise ConfigError(f"unknown {word} {name!r}{meant} known: {', '.join(known) or 'none'}")
