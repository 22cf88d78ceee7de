"""The replay buffer on the edge of its capacity: right at every turn of the ring, and flat in memory for a million rows."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dreamer.training.replay import Replay
from dreamer.world_model.encoder import ObservationSpec

LENGTH, WINDOW, T = 40, 6, 5        # rows of a ring, rows of a window, trained steps


def make(streams=2, length=LENGTH, deter=4):
    return Replay(streams * length, streams, ObservationSpec(vector=2), 2, deter, 2, T)


def rows(numbers):
    """One row for each of `numbers` (n,): all of its contents follow from the number."""
    n, x = len(numbers), numbers.float()
    return {"obs_vector": torch.stack([x, -x], -1), "action": torch.stack([x + 0.25, x + 0.5], -1), "reward": x / 8,
            "deter": (numbers % 1000).unsqueeze(-1).expand(n, 4), "stoch": torch.stack([numbers % 4, numbers // 4 % 4], -1),
            "is_first": numbers % 7 == 0, "is_last": numbers % 7 == 6, "is_terminal": numbers % 14 == 6}


def check_sample(batch, state, oldest, newest):
    """Every sampled row is the one that was put in, and none is older or newer than what the ring holds."""
    ids = batch["obs"]["vector"][..., 0].long()                                 # (B, T)
    assert (ids.diff(dim=1) == 1).all() and ids.min() - 1 >= oldest and ids.max() <= newest
    flat, context = rows(ids.flatten()), rows(ids[:, 0] - 1)
    for key in ("reward", "is_first", "is_last", "is_terminal"):
        assert torch.equal(batch[key].flatten(), flat[key])
    assert torch.equal(batch["prev_action"].flatten(0, 1), rows(ids.flatten() - 1)["action"])
    assert torch.equal(state[0], context["deter"].float()) and torch.equal(state[1], context["stoch"])
    return set(ids[:, 0].tolist())


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("around", [LENGTH, 2 * LENGTH, 25 * LENGTH])
def test_the_rows_right_before_at_and_after_a_turn_of_the_ring(around, fresh):
    """fresh: windows that were never trained on come first; some of them have been overwritten meanwhile."""
    replay, streams = make(), torch.arange(2)
    for number in range(around + 3):
        replay.add(rows(torch.tensor([number, number])), streams)
        total = number + 1
        if total < around - 3:
            continue
        oldest, seen = max(0, total - LENGTH), set()
        assert len(replay) == 2 * min(total, LENGTH)
        for _ in range(12):
            if not fresh:
                replay.fresh.clear()
            batch, state, place = replay.sample(64)
            seen |= check_sample(batch, state, oldest, number)
            replay.write_back(place, (batch["obs"]["vector"][..., :1] % 1000).expand(64, T, 4),
                              torch.stack([batch["obs"]["vector"][..., 0] % 4, batch["obs"]["vector"][..., 0] // 4 % 4], -1))
        assert seen == set(range(oldest + 1, number - T + 2))       # every window the ring holds, and no other


@pytest.mark.parametrize("saved_at", [LENGTH - 1, LENGTH, LENGTH + 1, 3 * LENGTH])
def test_a_buffer_that_is_saved_on_the_edge_goes_on_as_the_original(saved_at):
    one, streams = make(), torch.arange(2)
    for number in range(saved_at):
        one.add(rows(torch.tensor([number, number])), streams)
    two = make()
    two.load_state_dict(one.state_dict())
    for number in range(saved_at, saved_at + 2 * LENGTH):
        (batch, state, _), (again, state_again, _) = one.sample(4), two.sample(4)
        assert torch.equal(batch["obs"]["vector"], again["obs"]["vector"]) and torch.equal(state[0], state_again[0])
        check_sample(batch, state, max(0, number - LENGTH), number - 1)
        for replay in (one, two):
            replay.add(rows(torch.tensor([number, number])), streams)


def test_the_queue_of_fresh_windows_is_bounded_also_after_a_stop():
    """Where little is trained the queue is never emptied: what the rings have overwritten must leave it."""
    replay = make()
    for number in range(3 * LENGTH):
        replay.add(rows(torch.tensor([number, number])), torch.arange(2))
    again = make()
    again.load_state_dict(replay.state_dict())
    for number in range(3 * LENGTH, 30 * LENGTH):
        again.add(rows(torch.tensor([number, number])), torch.arange(2))
    assert len(again.fresh) <= 2 * -(-LENGTH // WINDOW)
    batch, state, _ = again.sample(16)
    check_sample(batch, state, 29 * LENGTH, 30 * LENGTH - 1)


# ------------------------------------------------------------------ a million rows

MILLION = """
import resource, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
import torch
import test_faults_replay as t
torch.set_num_threads(1)
streams, length = 16, 2500                              # 40,000 rows: a million turn every ring 25 times
replay, everywhere, peaks = t.make(streams, length), torch.arange(streams), []
for number in range(1_000_000 // streams):
    replay.add(t.rows(torch.full((streams,), number)), everywhere)
    if number > t.WINDOW and number % 50 == 0:          # seldom: the queue of fresh windows is always full
        batch, state, place = replay.sample(16)
        t.check_sample(batch, state, max(0, number + 1 - length), number)
    if number == 2 * length:                            # as after a stop
        again = t.make(streams, length)
        again.load_state_dict(replay.state_dict())
        replay = again
        del again
    if number and number % (2 * length) == 0:
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
assert len(replay) == streams * length and replay.count.sum() == 1_000_000
print(*peaks)
"""


@pytest.mark.slow
def test_a_million_rows_take_no_more_memory_than_the_first_lap():
    """The largest memory that the process ever held, in KB (a Mac: bytes), no longer grows once the rings are full."""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", MILLION, str(Path(__file__).parent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *others = map(int, done.stdout.split())
    scale = 1 if sys.platform == "darwin" else 1024
    assert len(others) >= 10 and (others[-1] - others[0]) * scale < 1_000_000, (first, others)
