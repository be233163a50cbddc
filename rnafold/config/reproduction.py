"""The command line that trains a run again, derived from its config.yaml against the shipped configurations."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from rnafold.config.hardware import load_gpu
from rnafold.config.settings import Config, ModelConfig, resolve_config
from rnafold.config.strict_yaml import build, dump, list_names, load_named, parse_yaml, to_mapping
from rnafold.errors import ConfigError, InputError

# Where something lies on the machine changes nothing about the result.
_PLACES: Final = ("data.cache",)
_WIDTH: Final = 110
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainChoices:
    """`--gpu`, `--model` and `--set` of a training run."""

    gpu: str
    model: str
    overrides: tuple[str, ...]


def derive_choices(config: Config) -> TrainChoices:
    """The choices that lead to `config`: the nearest shipped files and every key that differs from them.

    Raises:
        InputError: no `--set` leads there; a run of another version of the project.
    """
    gpu, model = _find_gpu(config), _find_model(config)
    default = _flatten(to_mapping(resolve_config(gpu, model)))
    wanted = _flatten(to_mapping(config))
    different = {key for key, value in wanted.items() if key not in _PLACES and default.get(key, _ABSENT) != value}
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


def _find_gpu(config: Config) -> str:
    """The file of configs/gpu with the fewest different facts, then the fewest different choices."""
    facts, choices = _flatten(to_mapping(config.hardware)), _flatten(to_mapping(config.train))

    def rank(name: str) -> tuple[int, int, str]:
        gpu = load_gpu(name)
        facts_of, choices_of = _flatten(to_mapping(gpu.hardware)), _flatten(to_mapping(gpu.run))
        return _count_different(facts_of, facts), _count_different(choices_of, choices), name

    return min(list_names("gpu"), key=rank)


def _find_model(config: Config) -> str:
    wanted = _flatten(to_mapping(config.model))

    def rank(name: str) -> tuple[int, str]:
        return _count_different(_flatten(to_mapping(build(ModelConfig, load_named("model", name), name))), wanted), name

    return min(list_names("model"), key=rank)


def _count_different(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(other.get(key, _ABSENT) != value for key, value in one.items())


def _flatten(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_walk(mapping, ""))


def _walk(mapping: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
