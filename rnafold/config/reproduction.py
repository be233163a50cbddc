"""The command line that trains a run again, derived from its config.yaml against the shipped configurations."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from rnafold.config.settings import Config, TrainChoices, resolve_config
from rnafold.config.strict_yaml import dump, parse_yaml, to_mapping
from rnafold.errors import ConfigError, InputError

# Where something lies on the machine changes nothing about the result.
_PLACES: Final = ("data.cache",)
_WIDTH: Final = 110
_ABSENT: Final = object()


def derive_choices(config: Config) -> TrainChoices:
    """The choices that lead to `config`: its GPU and model by name, and every key that differs from their files.

    Raises:
        InputError: no names are known, or no `--set` leads there; a run of another version of the project.
    """
    if config.choices is None:
        raise InputError(f"the names of this run's GPU ({config.hardware.name}) and model are not known")
    gpu, model = config.choices.gpu, config.choices.model
    default = _flatten(to_mapping(resolve_config(gpu, model)))
    wanted = _flatten(to_mapping(config))
    different = {key for key, value in wanted.items() if _is_result(key) and default.get(key, _ABSENT) != value}
    # no file holds a loss term: whoever sets one key of it gets the class's defaults, not the term's, for the other
    terms = {key.rpartition(".")[0] for key in different if key.startswith("loss.") and key.count(".") > 1}
    changed = {key: value for key, value in wanted.items() if key in different or key.rpartition(".")[0] in terms}
    if "train.learning_rate" in changed:  # alone it would switch to the rule `fixed`
        changed["train.lr_rule"] = config.train.lr_rule
    overrides = tuple(f"{key}={format_value(value)}" for key, value in changed.items())
    try:
        again = resolve_config(gpu, model, overrides)
    except ConfigError as error:
        raise InputError(f"--gpu {gpu} --model {model} do not lead to this run's configuration: {error}") from None
    if replace(again, data=replace(again.data, cache=config.data.cache)) != config:
        raise InputError(f"--gpu {gpu} --model {model} and --set do not lead to this run's configuration")
    return TrainChoices(gpu=gpu, model=model, overrides=overrides)


def format_train_command(choices: TrainChoices, data: str, out: str) -> str:
    """`python -m rnafold train ...` as lines that a shell joins."""
    words = ["python -m rnafold train", f"--gpu {shlex.quote(choices.gpu)}", f"--model {shlex.quote(choices.model)}"]
    words += [f"--data {shlex.quote(data)}", f"--out {shlex.quote(out)}"]
    if choices.overrides:
        first, *others = map(shlex.quote, choices.overrides)
        words += [f"--set {first}", *others]
    return wrap_command(words)


def wrap_command(words: list[str]) -> str:
    """Words joined by blanks, broken with a backslash before the line grows too wide."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 > _WIDTH:
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return " \\\n".join(lines)


def format_value(value: Any) -> str:
    """A scalar or list as the YAML that `--set KEY=` reads back to the same value."""
    if isinstance(value, str):  # a JSON text is YAML too, and always one line
        return value if _is_plain(value) else json.dumps(value)
    text = dump({"value": value}).removeprefix("value:").strip()
    return text.removesuffix("...").strip()


def _is_plain(text: str) -> bool:
    try:
        return bool(text) and parse_yaml(text, "") == text
    except ConfigError:
        return False


def _is_result(key: str) -> bool:
    """Whether a key may change what comes out; the names that a run was started by stand beside the result."""
    return key not in _PLACES and not key.startswith("choices.")


def _flatten(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_walk(mapping, ""))


def _walk(mapping: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
