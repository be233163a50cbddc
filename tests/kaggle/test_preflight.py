"""Each fault that would waste a session is found before it begins, with a machine that is only described."""

import dataclasses
from pathlib import Path

import pytest

from rnafold.cli.main import main
from rnafold.config.hardware import load_gpu
from rnafold.data.demo import write_demo_data
from rnafold.errors import InputError
from rnafold.kaggle import preflight
from rnafold.kaggle.preflight import Card, Machine, PreflightFinding, Report, check_arithmetic
from rnafold.training.selftest import Check

T4 = Card(name="Tesla T4", capability=(7, 5), total_gib=14.56, free_gib=14.4)
ARCHS = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
HEALTHY = Machine(python=(3, 12), torch="2.10.0+cu128", cards=(T4, T4), arch_list=ARCHS, free_disk_gib=19.0)
P100 = Card(name="Tesla P100-PCIE-16GB", capability=(6, 0), total_gib=15.9, free_gib=15.5)


def faults_of(machine: Machine, gpu: str = "t4x2", least_disk_gib: float = 3.0) -> list[str]:
    findings = preflight.check_machine(machine, gpu, load_gpu(gpu), least_disk_gib)
    return [f"{f.about}: {f.text}" for f in findings if f.level == "fault"]


def test_two_t4_that_compute_have_no_fault() -> None:
    assert faults_of(HEALTHY) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"cards": ()}, "no CUDA card here", id="no card"),
        pytest.param({"cards": (T4,)}, "needs 2 cards, found 1", id="one card of two"),
        pytest.param({"cards": (P100, P100)}, "t4x2 is for two NVIDIA Tesla T4", id="another card"),
        pytest.param(
            {"cards": (dataclasses.replace(T4, name="NVIDIA T400"),) * 2}, "t4x2 is for", id="a name that begins alike"
        ),
        pytest.param({"arch_list": ("sm_80", "sm_90")}, "no kernels for capability 7.5", id="not in the arch list"),
        pytest.param({"arch_list": ()}, "built for the CPU alone", id="CPU torch"),
        pytest.param(
            {"cards": (T4, dataclasses.replace(T4, failure="CUDA error: no kernel image is available"))},
            "card 1: the first operation failed: CUDA error: no kernel image",
            id="operation fails on the second card",
        ),
        pytest.param({"cards": (dataclasses.replace(T4, free_gib=6.0), T4)}, "6.0 GiB free of 14.6", id="memory taken"),
        pytest.param({"free_disk_gib": 0.4}, "disk: 0.4 GiB free, 3.0 needed", id="full disk"),
        pytest.param({"python": (3, 10)}, "Python 3.11 or later", id="old Python"),
    ],
)
def test_a_machine_with_one_fault_is_refused_with_its_reason(change: dict[str, object], expected: str) -> None:
    found = faults_of(dataclasses.replace(HEALTHY, **change))  # type: ignore[arg-type]
    assert any(expected in text for text in found), found


def test_another_card_names_the_config_that_fits_it() -> None:
    machine = dataclasses.replace(HEALTHY, cards=(P100,), arch_list=("sm_60",))
    assert any("using p100" in text for text in faults_of(machine, "t4"))


def test_the_cpu_config_needs_no_card() -> None:
    assert faults_of(dataclasses.replace(HEALTHY, cards=(), arch_list=()), "cpu") == []


@pytest.mark.parametrize(
    ("capability", "archs", "expected"),
    [
        pytest.param((7, 5), ["sm_75"], True, id="exact"),
        pytest.param((8, 6), ["sm_80"], True, id="binary of the same generation"),
        pytest.param((7, 5), ["sm_80"], False, id="only later ones"),
        pytest.param((8, 0), ["sm_75"], False, id="binary of an earlier generation"),
        pytest.param((12, 0), ["sm_75", "compute_90"], True, id="portable code"),
        pytest.param((9, 0), ["sm_90a"], True, id="suffix"),
        pytest.param((10, 0), ["sm_100"], True, id="three digits"),
        pytest.param((6, 0), ["sm_70", "sm_75", "compute_75"], False, id="P100 on Kaggle's torch"),
    ],
)
def test_kernels_run_within_a_generation_and_portable_code_on_later_cards(
    capability: tuple[int, int], archs: list[str], expected: bool
) -> None:
    assert preflight.has_kernels(capability, archs) is expected


def test_an_operation_that_raises_is_told_in_its_first_line() -> None:
    def fail(_index: int) -> float:
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA")

    assert preflight.try_operation(0, fail) == "CUDA error: no kernel image is available"


def test_an_operation_with_a_wrong_result_is_a_failure() -> None:
    assert preflight.try_operation(0, lambda _: 0.0).endswith("summed to 0.0, expected 262144.0")
    assert preflight.try_operation(0, lambda _: 262144.0) == ""


def test_a_package_that_is_not_installed_is_a_fault_and_an_old_one_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["numpy>=999", "surely-not-installed>=1", "pandas>=2; extra == 'test'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda _name: needs)
    findings = preflight.check_packages("rnafold-kit")
    assert [f.level for f in findings] == ["warning", "fault"]
    assert "surely-not-installed" in findings[1].text


def test_the_installed_package_has_all_it_needs() -> None:
    assert [f.level for f in preflight.check_packages()] == ["ok"]


def test_inputs_are_found_and_counted(tmp_path: Path) -> None:
    write_demo_data(tmp_path / "competitions" / "rna", num_train=2, num_test=2)
    finding = preflight.check_test_inputs(tmp_path)
    assert finding.level == "ok"
    assert "2 targets" in finding.text
    assert preflight.check_training_inputs(tmp_path).level == "ok"


def test_missing_inputs_are_a_fault_that_says_what_was_looked_for(tmp_path: Path) -> None:
    for finding in (preflight.check_test_inputs(tmp_path), preflight.check_training_inputs(tmp_path / "absent")):
        assert finding.level == "fault"
    assert "test_sequences" in preflight.check_test_inputs(tmp_path).text


def test_a_test_file_without_rows_is_a_fault(tmp_path: Path) -> None:
    write_demo_data(tmp_path, num_train=1, num_test=1)
    for name in ("test_sequences.csv", "sample_submission.csv"):
        path = tmp_path / name
        path.write_text(path.read_text().splitlines()[0] + "\n")
    assert preflight.check_test_inputs(tmp_path).level == "fault"


def test_a_sample_with_other_ids_is_a_fault(tmp_path: Path) -> None:
    write_demo_data(tmp_path, num_train=1, num_test=2)
    path = tmp_path / "sample_submission.csv"
    path.write_text(path.read_text().replace("DX002_", "OTHER_"))
    finding = preflight.check_test_inputs(tmp_path)
    assert finding.level == "fault"
    assert "OTHER" in finding.text


def test_all_faults_are_told_at_once() -> None:
    faults = [PreflightFinding(level="fault", about=about, text="broken") for about in ("disk", "card 0")]
    with pytest.raises(InputError, match="disk: broken; card 0: broken"):
        Report(findings=faults).require_no_faults()


def test_the_command_prints_every_finding_and_exits_2_on_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["kaggle", "preflight", "--gpu", "cpu", "--input", str(tmp_path), "--working", str(tmp_path)]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert "fault" in printed.out and "disk" in printed.out
    assert printed.err.startswith("error: preflight: inputs:")
    write_demo_data(tmp_path, num_train=1, num_test=1)
    assert main([*arguments, "--least-disk-gib", "0"]) == 0
    assert main([*arguments, "--least-disk-gib", "1e9"]) == 2


def test_what_the_selftest_finds_wrong_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checks = [
        Check(name="precision fp16", status="failed", detail="loss 9.1, 40% from fp32"),
        Check(name="attention flash", status="skipped", detail="not on this card"),
        Check(name="device", status="ok", detail="T4"),
    ]
    monkeypatch.setattr("rnafold.training.selftest.run_selftest", lambda gpu, cache, *, short: iter(checks * short))
    found = check_arithmetic("t4", tmp_path)
    assert [(finding.level, finding.about) for finding in found] == [
        ("fault", "precision fp16"),
        ("warning", "attention flash"),
        ("ok", "device"),
    ]
