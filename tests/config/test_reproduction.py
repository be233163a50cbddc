"""The command derived from a run's configuration leads back to that very configuration."""

import shlex
from dataclasses import replace

import pytest

from rnafold.cli.main import build_parser
from rnafold.config.reproduction import derive_choices, format_train_command, format_value
from rnafold.config.settings import resolve_config
from rnafold.errors import InputError


@pytest.mark.parametrize(
    ("gpu", "model", "overrides"),
    [
        pytest.param("t4x2", "base", [], id="nothing changed"),
        pytest.param(
            "cpu",
            "minimal",
            ["data.cutoff=2022-01-01", "train.seed=3", "loss.clash.ramp_epochs=2", "loss.clash.weight=0.3"],
            id="data",
        ),
        pytest.param("cpu", "plain", ["train.learning_rate=3e-3"], id="rate alone sets the rule"),
        pytest.param("cpu", "base", ["train.learning_rate=1e-4", "train.lr_rule=linear"], id="rate with another rule"),
        pytest.param("p100", "large", ["model.width=240", "model.name=mine", "data.validation=file"], id="model"),
        pytest.param("cpu", "base", ["hardware.memory.total_gib=30", "train.memory_share=0.5"], id="hardware"),
    ],
)
def test_the_derived_command_leads_back_to_the_configuration(gpu: str, model: str, overrides: list[str]) -> None:
    config = resolve_config(gpu, model, overrides)
    choices = derive_choices(config)
    assert (choices.gpu, choices.model) == (gpu, model)
    assert resolve_config(choices.gpu, choices.model, choices.overrides) == config
    # what was typed and, at most, the rule that a typed rate implies
    keys = {text.split("=")[0] for text in choices.overrides}
    assert {text.split("=")[0] for text in overrides} <= keys
    assert keys - {text.split("=")[0] for text in overrides} <= {"train.lr_rule"}
    command = format_train_command(choices, "my data", "runs/x")
    parsed = build_parser().parse_args(shlex.split(command.replace("\\\n", " "))[3:])
    assert (str(parsed.data), parsed.gpu, parsed.model, parsed.set) == ("my data", gpu, model, [*choices.overrides])
    assert max(map(len, command.splitlines())) <= 112


def test_where_the_cache_lies_is_no_part_of_the_command() -> None:
    config = resolve_config("cpu", "minimal", ["data.cache=elsewhere", "data.jobs=1"])
    assert derive_choices(config).overrides == ("data.jobs=1",)


def test_a_configuration_that_no_command_reaches_is_refused() -> None:
    config = resolve_config("cpu", "minimal")
    unreachable = replace(config, hardware=replace(config.hardware, source="two\nlines\x85"))
    assert derive_choices(unreachable).overrides, "any text can be typed"
    broken = replace(config, loss=replace(config.loss, tail=float("nan")))
    with pytest.raises(InputError, match="do not lead to this run's configuration"):
        derive_choices(broken)


@pytest.mark.parametrize(
    ("value", "text"),
    [("2022-05-27", "2022-05-27"), (1e-5, "1.0e-05"), (None, "null"), (True, "true"), ("true", '"true"'), ("", '""')]
    + [(("math", "flash"), "[math, flash]"), (0.1, "0.1"), ("a: b", '"a: b"')],
)
def test_values_are_written_as_set_reads_them(value: object, text: str) -> None:
    assert format_value(value) == text
