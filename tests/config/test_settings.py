"""Strict YAML: what is refused, what each message names, and that dump and build are inverse."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from rnafold.config.strict_yaml import (
    ConfigError,
    apply_overrides,
    build,
    config_directory,
    dump,
    list_names,
    load_named,
    load_yaml,
    merge,
    parse_yaml,
    resolve,
)

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    rate: float
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate: found {self.rate}, expected more than 0")
        if self.momentum == 0.5:
            raise ValueError("a rule without a field")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    epochs: int
    optimizer: Optimizer
    precision: Literal["fp32", "fp16", "no"] = "fp32"
    shuffle: bool = True
    name: str | None = None
    steps: int | Literal["auto"] = "auto"
    ramp: tuple[float, ...] = ()
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    teacher: Optimizer | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    train: Train
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed == 13:
            raise ValueError("train.optimizer.rate: unlucky together with seed 13")


GOOD = """\
seed: 7
train:
  epochs: 3
  optimizer:
    rate: 1e-3
  weights: {bond: 1, clash: 0.5}
"""


def read(text: str, *overrides: str) -> Config:
    return resolve(Config, [parse_yaml(text, "run.yaml")], overrides, "run.yaml")


def test_a_good_file_becomes_nested_frozen_dataclasses() -> None:
    built = read(GOOD)
    assert built == Config(
        seed=7, train=Train(epochs=3, optimizer=Optimizer(rate=1e-3), weights={"bond": 1.0, "clash": 0.5})
    )
    assert type(built.train.weights["bond"]) is float
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.seed = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+1", -25.0),
        (".5", 0.5),
        ("3.", 3.0),
        (".inf", float("inf")),
        ("010", 10),
        ("-7", -7),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("Off", "Off"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", "True"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        ("2026-11-21", "2026-11-21"),
        ("<<", "<<"),
        ("'1e-3'", "1e-3"),
        ('"true"', "true"),
        ("e5", "e5"),
        (".", "."),
        ("fp16", "fp16"),
    ],
)
def test_scalars_follow_yaml_1_2_and_not_the_traps_of_1_1(text: str, value: object) -> None:
    found = parse_yaml(f"key: {text}\n", "f.yaml")["key"]
    assert found == value
    assert type(found) is type(value)


WITH_TRAIN = "train:\n  epochs: 3\n  optimizer: {rate: 1}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            WITH_TRAIN + "  epoch: 4\n",
            "run.yaml:4: train.epoch: unknown key; did you mean train.epochs?",
            id="unknown-near",
        ),
        pytest.param(
            WITH_TRAIN + "momentun: 4\n",
            "run.yaml:4: momentun: unknown key; did you mean train.optimizer.momentum?",
            id="unknown-elsewhere",
        ),
        pytest.param(
            WITH_TRAIN + "zzz: 4\n", "run.yaml:4: zzz: unknown key; known here: train, seed", id="unknown-nowhere"
        ),
        pytest.param(
            "train:\n  optimizer: {rate: 1}\n", "run.yaml:1: missing key train.epochs", id="missing-in-section"
        ),
        pytest.param("seed: 1\n", "run.yaml: missing key train", id="missing-section"),
        pytest.param("train: {}\n", "run.yaml:1: missing keys train.epochs, train.optimizer", id="missing-two"),
        pytest.param(
            WITH_TRAIN + "  epochs: 4\n",
            "run.yaml:4: train.epochs: key given twice, first on line 2",
            id="duplicate",
        ),
        pytest.param(
            "seed: 1\nseed: 1\n", "run.yaml:2: seed: key given twice, first on line 1", id="duplicate-top-level"
        ),
        pytest.param(
            WITH_TRAIN + "seed: 1.5\n",
            "run.yaml:4: seed: found the number 1.5, expected a whole number",
            id="float-for-int",
        ),
        pytest.param(
            WITH_TRAIN + "seed: true\n", "run.yaml:4: seed: found true, expected a whole number", id="bool-for-int"
        ),
        pytest.param(
            WITH_TRAIN + "seed: '1'\n",
            "run.yaml:4: seed: found the text '1', expected a whole number",
            id="text-for-int",
        ),
        pytest.param(
            WITH_TRAIN + "seed:\n", "run.yaml:4: seed: found nothing, expected a whole number", id="nothing-for-int"
        ),
        pytest.param(
            WITH_TRAIN + "  shuffle: yes\n",
            "run.yaml:4: train.shuffle: found the text 'yes', expected true or false",
            id="text-for-bool",
        ),
        pytest.param(
            WITH_TRAIN + "  shuffle: 1\n",
            "run.yaml:4: train.shuffle: found the whole number 1, expected true or false",
            id="int-for-bool",
        ),
        pytest.param(
            "train:\n  optimizer: {rate: true}\n",
            "run.yaml:1: missing key train.epochs",
            id="missing-before-mistyped",
        ),
        pytest.param(
            "train:\n  epochs: 3\n  optimizer: {rate: true}\n",
            "run.yaml:3: train.optimizer.rate: found true, expected a number",
            id="bool-for-float",
        ),
        pytest.param(
            WITH_TRAIN + "  name: 5\n",
            "run.yaml:4: train.name: found the whole number 5, expected text or null",
            id="int-for-text",
        ),
        pytest.param(
            WITH_TRAIN + "  precision: fp61\n",
            "run.yaml:4: train.precision: found the text 'fp61', expected one of fp32, fp16, no; did you mean fp16?",
            id="literal",
        ),
        pytest.param(
            WITH_TRAIN + "  precision: false\n",
            "run.yaml:4: train.precision: found false, expected one of fp32, fp16, no",
            id="bool-for-literal",
        ),
        pytest.param(
            WITH_TRAIN + "  steps: aut\n",
            "run.yaml:4: train.steps: found the text 'aut', expected a whole number or one of auto; did you mean auto?",
            id="union",
        ),
        pytest.param(
            WITH_TRAIN + "  ramp: [0.1, x]\n",
            "run.yaml:4: train.ramp[1]: found the text 'x', expected a number",
            id="item-of-list",
        ),
        pytest.param(
            WITH_TRAIN + "  ramp: 0.1\n",
            "run.yaml:4: train.ramp: found the number 0.1, expected a list, each a number",
            id="scalar-for-list",
        ),
        pytest.param(
            WITH_TRAIN + "  weights:\n    bond: 1\n    clash: high\n",
            "run.yaml:6: train.weights.clash: found the text 'high', expected a number",
            id="value-of-dict",
        ),
        pytest.param(
            WITH_TRAIN + "  weights: [1]\n",
            "run.yaml:4: train.weights: found a list of 1, expected a section, each value a number",
            id="list-for-dict",
        ),
        pytest.param(
            WITH_TRAIN + "  weights: {bond: .nan}\n",
            "run.yaml:4: train.weights.bond: found the number nan, expected a number",
            id="nan",
        ),
        pytest.param(
            "train: 3\n",
            "run.yaml:1: train: found the whole number 3, expected a section (epochs, optimizer, precision, shuffle, "
            "name, steps, ramp, weights, teacher)",
            id="scalar-for-section",
        ),
        pytest.param(
            WITH_TRAIN + "  name: {a: 1, b: 2}\n",
            "run.yaml:4: train.name: found a section (keys a, b), expected text or null",
            id="section-for-text",
        ),
        pytest.param(
            WITH_TRAIN + "  teacher: {rat: 1}\n",
            "run.yaml:4: train.teacher.rat: unknown key; did you mean train.teacher.rate?",
            id="inside-an-optional-section",
        ),
        pytest.param(
            "train:\n  epochs: 3\n  optimizer:\n    momentum: 0.8\n    rate: -1\n",
            "run.yaml:5: train.optimizer.rate: found -1.0, expected more than 0",
            id="range",
        ),
        pytest.param(
            "train:\n  epochs: 3\n  optimizer: {rate: 1, momentum: 0.5}\n",
            "run.yaml:3: train.optimizer: a rule without a field",
            id="range-of-no-field",
        ),
        pytest.param(
            "seed: 13\n" + WITH_TRAIN,
            "run.yaml:4: train.optimizer.rate: unlucky together with seed 13",
            id="range-of-a-key-deeper-down",
        ),
        pytest.param(
            "train: [1\n", "run.yaml:2: not valid YAML: expected ',' or ']', but got '<stream end>'", id="syntax"
        ),
        pytest.param(
            "seed: 1\n---\nseed: 2\n", "run.yaml:2: not valid YAML: but found another document", id="two-documents"
        ),
        pytest.param(
            "train: {1: 2}\n", "run.yaml:1: train: found the key 1, expected text (quote it)", id="number-as-key"
        ),
        pytest.param(
            "seed: !!python/name:os.system\n",
            "run.yaml:1: seed: found the YAML tag !!python/name:os.system, expected plain values",
            id="python-tag",
        ),
        pytest.param(
            "seed: !!str 5\n", "run.yaml:1: seed: found the YAML tag !!str, expected plain values", id="explicit-tag"
        ),
        pytest.param(
            "train: &a\n  teacher: *a\n",
            "run.yaml:1: train.teacher: an anchor that contains itself",
            id="endless-anchor",
        ),
    ],
)
def test_a_wrong_file_gives_one_line_with_file_line_key_and_expectation(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value) == message


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^none\.yaml: no such file$"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read as text: .*directory"):
        load_yaml(tmp_path)
    for content, expected in (
        (b"", "binary.yaml: found nothing, expected keys with values"),
        (b"- 1\n- 2\n", "binary.yaml: found a list of 2, expected keys with values"),
        (b"a: \xff\n", "binary.yaml: cannot be read as text: 'utf-8' codec"),
        (b"a: \x00\n", "binary.yaml: not valid YAML: "),
    ):
        (tmp_path / "binary.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match="^" + re.escape(expected)):
            load_yaml("binary.yaml")


def test_overrides_go_through_the_same_rules_as_files() -> None:
    built = read(
        GOOD, "train.epochs=5", "train.optimizer.rate=2e-4", "train.ramp=[0, 1]", "train.name=a=b", "train.steps=4"
    )
    assert built.train.epochs == 5
    assert built.train.optimizer.rate == 2e-4
    assert built.train.ramp == (0.0, 1.0)
    assert built.train.name == "a=b"
    assert built.train.steps == 4
    # Keys of the same section that were not overridden stay, and a section that the file lacks is made.
    assert read(GOOD, "train.weights.bond=2", "train.teacher.rate=1").train.weights == {"bond": 2.0, "clash": 0.5}
    assert read(GOOD, "train.teacher.rate=1").train.teacher == Optimizer(rate=1.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=5", "--set train.epoch=5: train.epoch: unknown key; did you mean train.epochs?"),
        ("epochs=5", "--set epochs=5: epochs: unknown key; did you mean train.epochs?"),
        ("trian.epochs=5", "--set trian.epochs=5: trian: unknown key; did you mean train?"),
        ("train.epochs=many", "--set train.epochs=many: train.epochs: found the text 'many', expected a whole number"),
        (
            "train.optimizer.rate=0",
            "--set train.optimizer.rate=0: train.optimizer.rate: found 0.0, expected more than 0",
        ),
        ("train.epochs", "--set train.epochs: expected key=value, such as train.epochs=3"),
        ("=3", "--set =3: expected key=value, such as train.epochs=3"),
        ("train..epochs=3", "--set train..epochs=3: expected key=value, such as train.epochs=3"),
        ("seed.x=3", "--set seed.x=3: seed holds the whole number 7, not a section"),
        ("train.ramp=[1", "--set train.ramp=[1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_a_wrong_override_is_named_as_the_user_typed_it(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(GOOD, override)
    assert str(caught.value) == message


def test_overrides_and_merge_leave_their_input_alone() -> None:
    original = parse_yaml(GOOD, "run.yaml")
    apply_overrides(original, ["train.optimizer.rate=9", "train.weights.bond=9"])
    merge(original, {"train": {"epochs": 9}})
    assert build(Config, original) == read(GOOD)
    assert original["train"].origins["epochs"] == "run.yaml:3"


def test_merge_lets_the_later_file_win_and_errors_still_name_the_file_of_each_key() -> None:
    base = parse_yaml(GOOD, "base.yaml")
    later = parse_yaml("train:\n  epochs: 9\n  optimizer:\n    momentum: 0.8\n", "later.yaml")
    built = resolve(Config, [base, later])
    assert built.train.epochs == 9
    assert built.train.optimizer == Optimizer(rate=1e-3, momentum=0.8)
    bad = parse_yaml("train:\n  epochs: x\n", "later.yaml")
    with pytest.raises(ConfigError, match=r"^later\.yaml:2: train\.epochs: "):
        resolve(Config, [base, bad])
    with pytest.raises(ConfigError, match=r"^base\.yaml:3: train\.epochs: "):
        resolve(Config, [parse_yaml(GOOD.replace("epochs: 3", "epochs: x"), "base.yaml"), parse_yaml("seed: 1", "b")])


finite = st.floats(allow_nan=False)
optimizers = st.builds(
    Optimizer,
    rate=st.floats(min_value=1e-300, allow_nan=False),
    momentum=finite.filter(lambda value: value != 0.5),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "no",
        "1e-3",
        "true",
        "null",
        "~",
        "",
        "010",
        "12:30",
        "2026-11-21",
        "=",
        "<<",
        "- a",
        "a: b",
        "#",
        "'",
        " x ",
        "\n",
    ]
)
trains = st.builds(
    Train,
    epochs=st.integers(),
    optimizer=optimizers,
    precision=st.sampled_from(["fp32", "fp16", "no"]),
    shuffle=st.booleans(),
    name=st.none() | texts,
    steps=st.integers() | st.just("auto"),
    ramp=st.lists(finite, max_size=3).map(tuple),
    weights=st.dictionaries(texts, finite, max_size=3),
    teacher=st.none() | optimizers,
)


@given(st.builds(Config, train=trains, seed=st.integers(min_value=14)))
def test_dump_and_build_are_inverse_for_any_config(original: Config) -> None:
    assert build(Config, parse_yaml(dump(original), "dump.yaml")) == original


@example({"\x85": "a\x85 b", "no": "off"})
@given(st.dictionaries(texts, texts | st.integers() | st.booleans() | st.none(), max_size=4))
def test_dumped_text_means_the_same_to_a_yaml_1_1_reader(mapping: dict[str, Any]) -> None:
    # Others read the resolved config of a run with plain PyYAML: text that looks like `no` must come out quoted.
    assert yaml.safe_load(dump(mapping)) == mapping


@given(st.text(alphabet="ab1.:-#[]{}&*!|>'\"%@`, \n\t=e", max_size=40))
def test_any_text_is_either_read_or_refused_with_one_line(text: str) -> None:
    try:
        parse_yaml(text, "f.yaml")
    except ConfigError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("f.yaml")


def test_configs_are_found_in_the_checkout_and_the_environment_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RNAFOLD_CONFIGS", raising=False)
    assert config_directory() == ROOT / "configs"
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "mine.yaml").write_text("a: 1\n")
    monkeypatch.setenv("RNAFOLD_CONFIGS", str(tmp_path))
    assert list_names("gpu") == ["mine"]
    assert load_named("gpu", "mine") == {"a": 1}
    monkeypatch.setenv("RNAFOLD_CONFIGS", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=r"^RNAFOLD_CONFIGS=.*absent: no such directory$"):
        list_names("gpu")


def test_an_unknown_name_is_answered_with_the_near_one_and_all_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for group, names in (("gpu", ("t4", "t4x2", "v100")), ("model", ("base",))):
        (tmp_path / group).mkdir()
        for name in names:
            (tmp_path / group / f"{name}.yaml").write_text("a: 1\n")
    monkeypatch.setenv("RNAFOLD_CONFIGS", str(tmp_path))
    for group, name, message in (
        ("gpu", "t5", "unknown GPU 't5': did you mean t4? known: t4, t4x2, v100"),
        ("gpu", "V100", "unknown GPU 'V100': did you mean v100? known: t4, t4x2, v100"),
        ("gpu", "quantum", "unknown GPU 'quantum': known: t4, t4x2, v100"),
        ("gpu", "../model/base", "unknown GPU '../model/base': known: t4, t4x2, v100"),
        ("model", "bse", "unknown model 'bse': did you mean base? known: base"),
        ("workloads", "x", "unknown workloads 'x': known: none"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_named(group, name)
        assert str(caught.value) == message
    # A name that ends in .yaml is the user's own file.
    assert load_named("model", str(tmp_path / "gpu" / "t4.yaml")) == {"a": 1}


@pytest.mark.slow
def test_a_wheel_carries_the_configs_and_finds_them_without_a_checkout(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    pytest.importorskip("wheel")
    source, unpacked = tmp_path / "source", tmp_path / "unpacked"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    (source / "README.md").write_text("stand-in\n")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "rnafold", source / "rnafold", ignore=ignore)
    shutil.copytree(ROOT / "configs", source / "configs", ignore=ignore)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "-w", str(tmp_path), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    program = "from rnafold.config.strict_yaml import *; print(config_directory()); print(*list_names('gpu'))"
    environment = {key: value for key, value in os.environ.items() if key != "RNAFOLD_CONFIGS"}
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (unpacked / "rnafold" / "py.typed").is_file(), "its types are for whoever imports it"
    found, names = answer.stdout.splitlines()
    assert Path(found) == unpacked / "rnafold" / "_configs"
    assert names.split() == sorted(path.stem for path in (ROOT / "configs" / "gpu").glob("*.yaml"))
    shipped = {str(path.relative_to(found)) for path in Path(found).rglob("*.yaml")}
    assert shipped == {str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").rglob("*.yaml")}
