"""Probe environments (probes.py), learned by the real training run within seconds each.

Every test says which bug makes it fail: each was put in, and the test did fail.
"""

import numpy as np
import pytest
from probes import train, watch

SEED = 0


def test_constant_reward(tmp_path):
    """10 per step is worth 10 / (1 - .9) = 100, and no time limit changes that.

    Fails with: bins that end at 20, the discount applied twice or not at all, truncation taken for
    termination, a return without the value at its end.
    """
    agent, summary = train(tmp_path, "ConstantReward", seed=SEED)
    reward, continues, value, _ = watch(agent, [0, 0, 0, 0, 0], [0, 1, 1, 0])
    assert reward[1:] == pytest.approx([10] * 4, abs=0.5)
    assert continues == pytest.approx([0.9] * 5, abs=0.03)
    assert value == pytest.approx([100] * 5, abs=15)
    assert summary["updates"] == 301


def test_reward_that_depends_on_the_observation(tmp_path):
    """The reward belongs to the observation it arrives with; the value looks ahead and is the same for both.

    Fails with: the reward head trained on the reward of the next row, dreamed rewards read in the
    state before the action.
    """
    agent, _ = train(tmp_path, "ObservedReward", seed=SEED, discount_horizon=2)
    reward, _, value, _ = watch(agent, [1, -1, 1, 1, -1], [0, 1, 1, 0])
    assert reward == pytest.approx([0, -1, 1, 1, -1], abs=0.3)
    assert max(value) - min(value) < 0.4


def test_delayed_reward(tmp_path):
    """The cue of step 0 is the reward of step 2, where nothing is to be seen: the state must hold it.

    Fails with: a recurrent state that is zeroed in every step, lambda-returns with v_t in the place
    of v_{t+1}, final observations that are not stored.
    """
    agent, _ = train(tmp_path, "DelayedReward", updates=500, seed=SEED, lam=0.3)
    for cue in (1, -1):
        reward, continues, value, _ = watch(agent, [cue, 0, 0], [0, 1])
        assert reward == pytest.approx([0, 0, cue], abs=0.3)
        assert continues == pytest.approx([0.9, 0.9, 0], abs=0.1)
        assert value[:2] == pytest.approx([0.9 * cue, cue], abs=0.25)


def test_reward_that_depends_on_the_action(tmp_path):
    """Action 1 pays: its reward is predicted where it arrives, and the actor takes it.

    Fails with: a_t fed in the place of a_{t-1}, the advantage with its sign flipped.
    """
    agent, summary = train(tmp_path, "ActionReward", seed=SEED)
    reward, _, _, chosen = watch(agent, [0] * 6, [1, 0, 1, 1, 0])
    assert reward == pytest.approx([0, 1, 0, 1, 1, 0], abs=0.2)
    assert min(chosen) > 0.9
    assert summary["final"]["greedy"] == [6.0] * 20


def test_reward_that_depends_on_action_and_observation(tmp_path):
    """The right action changes with every observation.

    Fails with: a_t fed in the place of a_{t-1}, dreams that follow another action than the one that is
    judged, a posterior that does not see the observation.
    """
    agent, summary = train(tmp_path, "MatchReward", updates=500, seed=SEED)
    _, _, _, chosen = watch(agent, [1, -1, 1, 1, -1], [1, 0, 1, 1])
    assert all(p > 0.8 if seen == 1 else p < 0.2 for p, seen in zip(chosen, [1, -1, 1, 1, -1]))
    assert np.mean(summary["final"]["greedy"]) > 5


@pytest.mark.parametrize("over, at_the_end, lowest, highest", [("Terminated", 0, 1.5, 4), ("Truncated", 0.9, 7, 11)])
def test_terminated_and_truncated_episodes(tmp_path, over, at_the_end, lowest, highest):
    """The same steps are worth 1 / (1 - .9 x 2/3) = 2.5 if their end is real, 10 if they were only cut off.

    Fails with: truncation stored as termination, final observations that are not stored.
    """
    agent, _ = train(tmp_path, over, seed=SEED)
    _, continues, value, _ = watch(agent, [0, 0, 0, 1], [1, 0, 1])
    assert continues[:3] == pytest.approx([0.9] * 3, abs=0.05)
    assert continues[3] == pytest.approx(at_the_end, abs=0.1)
    assert all(lowest < v < highest for v in value[:3])


def test_memory(tmp_path):
    """The cue of step 0 says which action is right at step 2.

    Fails with: a recurrent state that is zeroed in every step, in training or in acting.
    """
    agent, summary = train(tmp_path, "Memory", updates=800, seed=SEED)      # 500 are too few for 2 of 6 seeds
    for cue in (1, -1):
        right = watch(agent, [cue, 0, 0], [0, 1])[3][2]
        assert right > 0.8 if cue == 1 else right < 0.2
    assert np.mean(summary["final"]["greedy"]) > 0.8
