"""The plan of an epoch: complete, balanced by group, and the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafold.training.sampler import plan_epoch


def indices(windows: list) -> list[int]:
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
