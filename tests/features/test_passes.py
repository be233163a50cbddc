"""Passes of a step: complete, within what they may hold, and cheaper than uncut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafold.config.settings import resolve_config
from rnafold.features.passes import MOST_PAIRS_ON_CPU, PassRule, cut_passes, pass_rule

LENGTHS = st.lists(st.integers(8, 260), min_size=0, max_size=12)


def rule_of(gpu: str, *overrides: str) -> PassRule:
    return pass_rule(resolve_config(gpu, "base", overrides), 256)


def cost(lengths: list[int], passes: list[tuple[int, ...]], rule: PassRule) -> float:
    return sum(rule.cost(len(found), -(-max(lengths[k] for k in found) // 8) * 8) for found in passes)


@given(lengths=LENGTHS, gpu=st.sampled_from(["cpu", "t4"]))
def test_every_example_is_in_one_pass_and_no_pass_holds_more_than_it_may(lengths: list[int], gpu: str) -> None:
    rule = rule_of(gpu)
    passes = cut_passes(lengths, rule)
    assert sorted(itertools.chain.from_iterable(passes)) == list(range(len(lengths)))
    for found in passes:
        size = -(-max(lengths[k] for k in found) // 8) * 8
        if len(found) > 1:
            assert len(found) * size <= rule.most_residues
            assert len(found) * size**2 <= rule.most_pairs
    longest = [max(lengths[k] for k in found) for found in passes]
    assert longest == sorted(longest, reverse=True)


@given(lengths=st.lists(st.integers(8, 260), min_size=1, max_size=7))
def test_no_other_cut_by_length_is_cheaper(lengths: list[int]) -> None:
    rule = rule_of("cpu")
    order = sorted(range(len(lengths)), key=lambda k: (lengths[k], k))
    allowed = []
    for marks in itertools.product((False, True), repeat=len(order) - 1):
        cuts = [0, *(k + 1 for k, mark in enumerate(marks) if mark), len(order)]
        passes = [tuple(order[a:b]) for a, b in itertools.pairwise(cuts)]
        if all(len(p) <= rule.most_examples(-(-lengths[p[-1]] // 8) * 8) for p in passes):
            allowed.append(cost(lengths, passes, rule))
    assert cost(lengths, cut_passes(lengths, rule), rule) == pytest.approx(min(allowed))


def test_long_and_short_chains_part_on_a_cpu_and_share_a_pass_on_a_card() -> None:
    # padded to 128 eight chains of 40 waste 8 x (16,384 - 1,600) pairs: a second of a core, 20 ms of a T4, whose pass
    # costs 66 ms of launches
    lengths = [40] * 8 + [128]
    assert [len(p) for p in cut_passes(lengths, rule_of("cpu"))] == [1, 8]
    assert [len(p) for p in cut_passes([56] * 3 + [64], rule_of("t4"))] == [4]


def test_what_a_pass_holds_is_a_micro_batch_of_the_longest_and_a_cpus_cache() -> None:
    assert rule_of("t4", "train.micro_batch=4", "train.accumulation=auto").most_examples(256) == 4
    # four chains of 256 are the residues of thirty-two of 32
    assert rule_of("t4", "train.micro_batch=4", "train.accumulation=auto").most_examples(32) == 32
    cpu = rule_of("cpu", "train.micro_batch=8", "train.accumulation=1")
    assert cpu.most_examples(256) == MOST_PAIRS_ON_CPU // 256**2 == 1
    assert cpu.most_examples(600) == 1, "one example is always taken"
