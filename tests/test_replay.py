"""The replay buffer gives back exactly what went in, in the right order, and never more than it holds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer.training.replay import Replay
from dreamer.world_model.encoder import ObservationSpec

DETER, STOCH, CLASSES = 3, 2, 4


def make(capacity=40, streams=1, length=4, spec=ObservationSpec(vector=2), seed=0):
    return Replay(capacity, streams, spec, 2, DETER, STOCH, length, seed)


def row(number, first=False, last=False, terminal=False):
    """A row all of whose contents follow from its number."""
    return {"obs_vector": [[number, -number]], "action": [[number + 0.25, number + 0.5]], "reward": [number / 8],
            "deter": [[number, number + 1, number + 2]], "stoch": [[number % CLASSES, number // 4 % CLASSES]],
            "is_first": [first], "is_last": [last], "is_terminal": [terminal]}


def fill(replay, rows, ring=0, begin=0):
    for number in range(begin, begin + rows):
        replay.add(row(number), torch.tensor([ring]))


def numbers(batch):
    return batch["obs"]["vector"][..., 0].long()


def drain(replay):
    """Empty the online queue, so that what follows is sampled uniformly."""
    replay.fresh.clear()
    return replay


# ------------------------------------------------------------------ round trip

episodes = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=12)     # steps, terminates


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(episodes, min_size=1, max_size=3), st.integers(1, 5), st.integers(6, 25), st.integers(0, 9))
def test_random_episodes_come_back_row_by_row(rings, length, per_ring, seed):
    """Several streams of different lengths, wrapped or not: each sampled row is the one that was put
    in, its neighbours are its neighbours in time, prev_action and context come from the row before."""
    replay, written, number = make(per_ring * len(rings), len(rings), length, seed=seed), {}, 0
    histories = [[] for _ in rings]
    for ring, plan in enumerate(rings):
        for steps, terminates in plan:
            for t in range(steps + 1):
                flags = (t == 0, t == steps, t == steps and terminates)
                replay.add(row(number, *flags), torch.tensor([ring]))
                written[number] = flags
                histories[ring].append(number)
                number += 1
    assert len(replay) == sum(min(len(h), per_ring) for h in histories)
    if not replay.windows().any():
        with pytest.raises(ValueError, match="rows in one environment"):
            replay.sample(1)
        return
    kept = {n for h in histories for n in h[-per_ring:]}
    for _ in range(5):
        batch, state, _ = replay.sample(8)
        for b, ids in enumerate(numbers(batch).tolist()):
            context = ids[0] - 1                # rows of one ring are numbered one after the other here
            assert ids == list(range(ids[0], ids[0] + length)) and {context, *ids} <= kept
            assert len({next(r for r, h in enumerate(histories) if n in h) for n in (context, *ids)}) == 1
            assert batch["prev_action"][b].tolist() == [[n - 0.75, n - 0.5] for n in ids]
            assert batch["reward"][b].tolist() == [n / 8 for n in ids]
            flags = zip(*(batch[k][b].tolist() for k in ("is_first", "is_last", "is_terminal")))
            assert list(flags) == [written[n] for n in ids]
            assert state[0][b].tolist() == [context, context + 1, context + 2]
            assert state[1][b].tolist() == [context % CLASSES, context // 4 % CLASSES]


def test_every_kind_of_observation_is_kept_in_its_own_small_type():
    replay = make(spec=ObservationSpec(vector=1, symbols=(9, 300), image=3))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    for t in range(6):
        replay.add({**row(t), "obs_vector": [[t]], "obs_symbols": [[t, 299]], "obs_image": images[t][None]},
                   torch.tensor([0]))
    types = {k: v.dtype for k, v in replay.rows.items()}
    assert types["obs_image"] == types["stoch"] == torch.uint8 and types["obs_symbols"] == torch.int16
    batch, _, _ = replay.sample(1)
    first = int(batch["obs"]["vector"][0, 0, 0])
    assert (batch["obs"]["image"][0].numpy() == images[first:first + 4]).all()
    assert batch["obs"]["symbols"][0].tolist() == [[t, 299] for t in range(first, first + 4)]


# ------------------------------------------------------------------ the ring

def test_after_the_ring_is_full_only_whole_windows_of_the_newest_rows_are_sampled():
    replay = make(capacity=10, length=3)
    for total in range(4, 36):
        fill(replay, 1 if total > 4 else 4, begin=total - 1 if total > 4 else 0)
        oldest, seen = max(0, total - 10), set()
        for _ in range(12):
            ids = numbers(drain(replay).sample(16)[0])
            assert (ids.diff(dim=1) == 1).all()                         # never across the head of the ring
            assert ids.min() - 1 >= oldest and ids.max() <= total - 1   # minus 1: the row of context
            seen |= set(ids[:, 0].tolist())
        assert seen == set(range(oldest + 1, total - 2))                # every possible start, none else


def test_memory_is_reserved_once_and_does_not_grow():
    replay = make(capacity=20, streams=2, length=4)
    before = {k: (v.data_ptr(), v.shape) for k, v in replay.rows.items()}
    fill(replay, 500)
    fill(replay, 500, ring=1)
    assert {k: (v.data_ptr(), v.shape) for k, v in replay.rows.items()} == before
    assert len(replay) == 20 and replay.rows["reward"].numel() == 20
    assert len(replay.fresh) <= 2 * 3       # the queue too: windows of 5 rows in rings of 10, rounded up


def test_a_capacity_below_one_window_is_refused():
    with pytest.raises(ValueError, match="less than one window of 5"):
        make(capacity=9, streams=2, length=4)


# ------------------------------------------------------------------ sampling

def test_all_start_positions_of_all_rings_are_equally_likely():
    replay = make(capacity=60, streams=2, length=4)
    fill(replay, 25)                            # 21 windows
    fill(replay, 47, ring=1, begin=100)         # wrapped: 26 windows of the last 30 rows
    counts, draws = {}, 47 * 200
    for _ in range(draws // 100):
        for first in numbers(drain(replay).sample(100)[0])[:, 0].tolist():
            counts[first] = counts.get(first, 0) + 1
    assert set(counts) == set(range(1, 22)) | set(range(118, 144))
    chi_square = sum((n - 200) ** 2 / 200 for n in counts.values())
    assert 20 < chi_square < 85                 # 46 degrees of freedom: outside in about 1 of 2000 cases


def test_fresh_windows_are_used_first_each_once_and_in_order():
    replay = make(capacity=60, streams=2, length=4)
    fill(replay, 11)                            # windows of rows 0-4 and 5-9
    fill(replay, 5, ring=1, begin=100)          # window of rows 100-104
    queue = list(replay.fresh)
    assert queue == [(0, 0), (0, 5), (1, 0)]
    assert numbers(replay.sample(2)[0])[:, 0].tolist() == [1, 6]
    assert numbers(replay.sample(2)[0])[0, 0] == 101
    assert not replay.fresh


def test_a_fresh_window_that_was_overwritten_is_not_used():
    replay = make(capacity=8, length=4)
    fill(replay, 9)                             # row 0 of the queued window 0-4 is gone
    assert replay.fresh[0] == (0, 0)
    assert numbers(replay.sample(1)[0]).min() >= 2
    fill(replay, 1, begin=9)
    assert numbers(replay.sample(1)[0])[0].tolist() == [6, 7, 8, 9]


# ------------------------------------------------------------------ latents

@pytest.mark.parametrize("rows", [12, 25])      # before and after the ring of 15 rows has wrapped
def test_fresh_latents_land_in_the_rows_they_belong_to(rows):
    replay = make(capacity=15, length=4)
    fill(replay, rows)
    before = {k: v.clone() for k, v in replay.rows.items()}
    batch, _, place = drain(replay).sample(3)
    ids = numbers(batch)                                                                # (B, T)
    deter = torch.stack([ids, 2 * ids, 3 * ids], -1).float() + 1000                     # (B, T, D)
    replay.write_back(place, deter, torch.full((3, 4, STOCH), 2))
    touched = set(ids.flatten().tolist())
    for slot, number in enumerate(replay.rows["obs_vector"][0, :min(rows, 15), 0].long().tolist()):
        expected = [1000 + number, 1000 + 2 * number, 1000 + 3 * number] if number in touched else \
            before["deter"][0, slot].tolist()
        assert replay.rows["deter"][0, slot].tolist() == expected
    written = min(rows, 15)                         # memory that nobody has written may hold anything, nan, too
    assert all(torch.equal(replay.rows[k][:, :written], v[:, :written]) for k, v in before.items() if k not in ("deter", "stoch"))


def test_the_next_sample_starts_from_the_latents_that_were_written_back():
    replay = make(capacity=15, length=4)
    fill(replay, 6)                             # windows 0-4 (queued) and 1-5
    _, state, place = replay.sample(1)
    assert state[0][0].tolist() == [0, 1, 2]    # context row 0: as stored when acting
    replay.write_back(place, torch.full((1, 4, DETER), 7.0), torch.full((1, 4, STOCH), 3))
    while True:
        batch, state, _ = replay.sample(1)
        if numbers(batch)[0, 0] == 2:           # context row 1: written back
            break
    assert state[0][0].tolist() == [7, 7, 7] and state[1][0].tolist() == [3, 3]


# ------------------------------------------------------------------ saving

def test_a_restored_buffer_gives_the_same_samples_as_the_original():
    for rows in (12, 37):
        replay, other = make(capacity=30, length=4, seed=1), make(capacity=30, length=4, seed=2)
        fill(replay, rows)
        replay.sample(1)
        other.load_state_dict(replay.state_dict())
        for number in range(rows, rows + 10):
            for buffer in (replay, other):
                buffer.add(row(number), torch.tensor([0]))
            (batch, state, _), (again, state_again, _) = replay.sample(3), other.sample(3)
            assert torch.equal(numbers(batch), numbers(again)) and torch.equal(state[0], state_again[0])


def test_a_sample_lies_on_the_device_asked_for():
    replay = make(capacity=30, length=4)
    fill(replay, 12)
    batch, state, _ = replay.sample(2, "meta")
    assert {x.device.type for x in (*state, *batch["obs"].values(), *(v for k, v in batch.items() if k != "obs"))} == {"meta"}


@pytest.mark.parametrize("streams, copied", [(1, False), (2, True)])
def test_what_is_saved_holds_no_unwritten_row_and_one_ring_is_not_copied(streams, copied):
    """A copy of 2.7 GB of pictures at every checkpoint would double what a run needs."""
    replay = make(capacity=4000 * streams, streams=streams, length=4)
    for ring in range(streams):
        fill(replay, 9, ring=ring)
    for key, saved in replay.state_dict()["rows"].items():
        assert saved.untyped_storage().nbytes() == saved.numel() * saved.element_size() and saved.shape[:2] == (streams, 9)
        assert torch.equal(saved, replay.rows[key][:, :9])
        assert (saved.data_ptr() != replay.rows[key].data_ptr()) == copied


def test_a_cut_marks_the_newest_row_of_every_ring_as_truncated():
    replay = make(capacity=20, streams=2, length=4)
    fill(replay, 13)
    fill(replay, 3, ring=1, begin=100)
    replay.cut()
    last = replay.rows["is_last"]
    assert last[0, 2] and last[1, 2] and replay.rows["obs_vector"][0, 2, 0] == 12       # 13 rows in a ring of 10
    assert last[0].sum() + last[1, :3].sum() == 2
    assert not replay.rows["is_terminal"][0].any() and not replay.rows["is_terminal"][1, :3].any()
