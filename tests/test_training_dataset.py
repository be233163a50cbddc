"""What training hides from the network: letters with their profile, and candidates beside the start."""

from pathlib import Path

import numpy as np
import pytest

from rnafold import rna
from rnafold.features.build import NUM_PROFILE_CHANNELS
from rnafold.settings import DataConfig
from rnafold.structure import Entry, Structure, Target, whole_chain
from rnafold.training.dataset import FeatureSource, TrainingExamples
from rnafold.training.starts import Starts

SEQUENCE = "GGGGCACGAAAGUGCCCC" * 3


def _starts(count: int) -> Starts:
    coords = np.random.default_rng(0).normal(size=(count, len(SEQUENCE), 3)).astype(np.float32)
    confidence = np.linspace(0.9, 0.1, count).astype(np.float32)
    return Starts(coords=coords, confidence=confidence, is_template=np.arange(count) % 2 == 0)


def _examples(tmp_path: Path, mask_residues: float) -> TrainingExamples:
    target = Target(target_id="1AAA_A", sequence=SEQUENCE, chains=whole_chain(len(SEQUENCE)))
    (tmp_path / "MSA").mkdir(exist_ok=True)
    (tmp_path / "MSA" / "1AAA_A.MSA.fasta").write_text(f">q\n{SEQUENCE}\n>x\n{SEQUENCE[:-1]}A\n")
    coords = np.random.default_rng(1).normal(size=(len(SEQUENCE), 1, 3))
    entry = Entry(target=target, references=(Structure(coords=coords, mask=np.ones((len(SEQUENCE), 1), bool)),))
    config = DataConfig(cache=str(tmp_path / "cache"), jobs=1, mask_residues=mask_residues)
    features = FeatureSource(config, [tmp_path])
    features.prepare([target])
    return TrainingExamples([entry], features, 0, starts={"1AAA_A": _starts(12)})


def test_a_share_of_the_residues_shows_neither_letter_nor_profile(tmp_path: Path) -> None:
    examples = _examples(tmp_path, 0.5)
    whole = rna.encode_sequence(SEQUENCE)
    shares = []
    for epoch in range(40):
        example = examples[epoch, 0]
        hidden = example.tokens == rna.UNKNOWN_TOKEN
        shares.append(hidden.mean())
        np.testing.assert_array_equal(example.tokens[~hidden], whole[~hidden])
        assert (example.residue_channels[hidden, :NUM_PROFILE_CHANNELS] == 0.0).all()
        assert (example.residue_channels[~hidden, NUM_PROFILE_CHANNELS - 1] == 1.0).all()
        # the pairs were predicted from the letters and stay: they say what the letters do not
        assert (example.residue_channels[hidden, NUM_PROFILE_CHANNELS:] != 0.0).any() or not hidden.any()
    assert 0.15 < np.mean(shares) < 0.35 and max(shares) < 0.7 and len(set(shares)) > 10
    again = _examples(tmp_path, 0.5)[7, 0]
    np.testing.assert_array_equal(again.tokens, examples[7, 0].tokens)


def test_nothing_is_hidden_by_default(tmp_path: Path) -> None:
    assert DataConfig().mask_residues == 0.0
    assert all((_examples(tmp_path, 0.0)[epoch, 0].tokens != rna.UNKNOWN_TOKEN).all() for epoch in range(5))
    with pytest.raises(ValueError, match=r"mask_residues 1\.0 must be"):
        DataConfig(mask_residues=1.0)


def test_each_epoch_sees_other_candidates_and_prediction_the_surest() -> None:
    starts = _starts(24)
    surest = starts.others(0)
    assert np.array_equal(np.sort(surest.confidence)[::-1], starts.confidence[1:9])
    rng = np.random.default_rng(0)
    drawn = [starts.others(0, rng=rng) for _ in range(50)]
    assert len({tuple(x.confidence) for x in drawn}) > 20
    assert all(starts.confidence[0] not in x.confidence for x in drawn), "never the start itself"
    assert all(not x.is_template.any() for x in [starts.others(0, templates=False, rng=rng) for _ in range(5)])


def test_training_starts_are_mostly_assemblies_and_validation_starts_at_the_surest_of_them() -> None:
    starts = _starts(24)  # every second one, the surest included, is a template's
    rng = np.random.default_rng(0)
    drawn = [starts.draw(rng) for _ in range(600)]
    shares = [np.mean([starts.is_template[k] for k, _ in drawn]), np.mean([not templates for _, templates in drawn])]
    # 0.85 x 0.25 of the draws are among all, of which half are templates; 0.15 are to see no template
    np.testing.assert_allclose(shares, [0.85 * 0.25 * 0.5, 0.15], atol=0.04)
    assert {k for k, _ in drawn} == set(range(24)), "poor ones as well"
    assert starts.first_assembly() == 1
    only = Starts(coords=starts.coords[:2], confidence=starts.confidence[:2], is_template=np.array([True, True]))
    assert only.first_assembly() == 0
    assert {only.draw(rng) for _ in range(50)} == {(0, True), (1, True)}
