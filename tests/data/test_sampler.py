"""The plan of an epoch: complete, balanced by group, and the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafold.data.sampler import Window, plan_epoch


def indices(windows: list[Window]) -> list[int]:
    return [k for w in windows for m in w.micro_batches for k in m]


@given(num=st.integers(1, 200), micro=st.integers(1, 5), windows=st.integers(1, 4), epoch=st.integers(0, 3))
def test_every_group_is_seen_once_an_epoch(num: int, micro: int, windows: int, epoch: int) -> None:
    lengths = np.random.default_rng(num).integers(8, 300, num).tolist()
    plan = plan_epoch(lengths, [""] * num, 1, epoch, micro * windows, micro)
    assert sorted(indices(plan)) == list(range(num))
    assert all(len(w.micro_batches) <= windows for w in plan)


def test_one_member_of_each_group_is_drawn_and_others_come_in_other_epochs() -> None:
    groups = ["a"] * 5 + ["b"] * 3
    seen = set()
    for epoch in range(40):
        chosen = indices(plan_epoch([10] * 8, groups, 0, epoch, 4, 2))
        assert len(chosen) == 2
        assert {groups[k] for k in chosen} == {"a", "b"}
        seen |= set(chosen)
    assert seen == set(range(8))


def test_the_same_seed_and_epoch_give_the_same_plan_and_others_do_not() -> None:
    lengths, groups = list(range(8, 108)), [""] * 100
    assert plan_epoch(lengths, groups, 3, 5, 8, 2) == plan_epoch(lengths, groups, 3, 5, 8, 2)
    assert plan_epoch(lengths, groups, 3, 5, 8, 2) != plan_epoch(lengths, groups, 3, 6, 8, 2)
    assert plan_epoch(lengths, groups, 3, 5, 8, 2) != plan_epoch(lengths, groups, 4, 5, 8, 2)


def test_micro_batches_hold_similar_lengths_so_that_little_is_padding() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, 256, 1200).tolist()
    padded = real = 0
    for window in plan_epoch(lengths, [""] * 1200, 0, 0, 48, 8):
        for micro in window.micro_batches:
            padded += max(lengths[k] for k in micro) * len(micro)
            real += sum(lengths[k] for k in micro)
    # padding all to 256 would make the share 256 / 132 = 1.94
    assert padded / real < 1.05


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_a_window_without_overlap(ranks: int) -> None:
    (window, *_) = plan_epoch([10] * 24, [""] * 24, 0, 0, 12, 2)
    dealt = [m for r in range(ranks) for m in window.of_rank(r, ranks)]
    assert sorted(dealt) == sorted(window.micro_batches)


def test_short_groups_are_drawn_in_proportion_to_their_length() -> None:
    # 100 groups of 10 and 100 of 40 residues balanced at 40: chances 1/4 and 1, so 25 + 100 = 125 examples an epoch
    lengths, groups = [10] * 100 + [40] * 100, [f"g{k}" for k in range(200)]
    short, total = 0, 0
    for epoch in range(40):
        drawn = indices(plan_epoch(lengths, groups, 0, epoch, 8, 4, 40))
        assert len(drawn) == 125 and len(set(drawn)) == 125
        short += sum(k < 100 for k in drawn)
        total += len(drawn)
    # a long group's clock is early but not always early enough: a little more than a fifth are short
    assert 0.18 < short / total < 0.36
    assert plan_epoch(lengths, groups, 0, 1, 8, 4, 40) == plan_epoch(lengths, groups, 0, 1, 8, 4, 40)
