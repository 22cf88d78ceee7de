"""What the learner adds to the agent: cold starts, random starts of dreams, averaged weights."""

from dataclasses import replace

import pytest
import torch

from dreamer.config import Config
from dreamer.distributions import Mode
from dreamer.learner import Learner
from dreamer.training import experiments
from dreamer.training.offline import random_only
from dreamer.world_model.encoder import ObservationSpec

SMALL = Config(batch_size=6, batch_length=5, starts=7, imagination_horizon=2, warmup=0)


def learner(**changes):
    return Learner(ObservationSpec(vector=3), 2, True, replace(SMALL, **changes))


def stored(batch=6):
    return torch.rand(batch, 512), torch.randint(4, (batch, 32))


def batch_of(config):
    rows = config.batch_size, config.batch_length
    no = torch.zeros(rows, dtype=torch.bool)
    return {"obs": {"vector": torch.randn(*rows, 3)}, "prev_action": torch.zeros(*rows, 2), "reward": torch.ones(rows),
            "is_first": no, "is_last": no, "is_terminal": no}


def test_cold_starts_take_whole_sequences_to_the_zero_state():
    deter, stoch = learner(cold_starts=0.5).first_state(*stored(1000))
    cold = (deter == 0).all(-1)
    assert torch.equal(cold, (stoch == 0).flatten(1).all(-1))
    assert 430 < cold.sum() < 570
    assert (stoch[~cold].sum(-1) == 1).all()            # every other row has its one-hot latents


def test_no_cold_starts_keep_what_was_stored_and_all_cold_keep_nothing():
    deter, indices = stored()
    kept, stoch = learner(cold_starts=0.0).first_state(deter, indices)
    assert torch.equal(kept, deter) and torch.equal(stoch.argmax(-1), indices)
    gone, nothing = learner(cold_starts=1.0).first_state(deter, indices)
    assert not gone.any() and not nothing.any()


def test_index_c_stands_for_the_zero_state():
    _, stoch = learner(cold_starts=0.0).first_state(torch.zeros(2, 512), torch.full((2, 32), 4))
    assert not stoch.any()


def test_starts_are_different_states_of_the_batch():
    subject = learner()
    starts = subject.pick_starts(batch_of(SMALL))
    assert len(starts) == 7 and len(starts.unique()) == 7 and starts.max() < 30
    assert not torch.equal(starts, subject.pick_starts(batch_of(SMALL)))
    assert learner(starts=0).pick_starts(batch_of(SMALL)) is None


def test_average_follows_at_its_rate_and_rate_one_is_the_agent():
    for rate in (0.25, 1.0):
        subject = learner(average_rate=rate)
        before = [p.clone() for p in subject.average.parameters()]
        subject.update(batch_of(SMALL), stored())
        for old, average, now in zip(before, subject.average.parameters(), subject.agent.parameters(), strict=True):
            torch.testing.assert_close(average, old + rate * (now - old))
        assert any(not torch.equal(old, now) for old, now in zip(before, subject.average.parameters()))


def steps_taken(**changes):
    """How far a parameter with a constant gradient moves in each of ten updates."""
    agent = learner(steps=110, prefill=10, batch_size=2, batch_length=5, train_ratio=1.0, lr=0.01, agc=1e9, **changes)
    parameter, moved = agent.optimizer.parameters[0], []
    for _ in range(10):
        before = parameter.detach().clone()
        for p in agent.optimizer.parameters:
            p.grad = torch.ones_like(p)
        agent.apply({}, {}, {"deter": torch.zeros(1), "stoch": torch.zeros(1, 1)})
        moved.append(float((before - parameter.detach()).mean()) / 0.01)
    return moved


def test_the_learning_rate_falls_along_a_line_over_the_planned_updates():
    assert learner(steps=110, prefill=10, batch_size=2, batch_length=5, train_ratio=1.0).config.planned_updates == 10
    torch.testing.assert_close(steps_taken(lr_end=0.0), [1 - .1 * i for i in range(10)], atol=1e-3, rtol=0)
    torch.testing.assert_close(steps_taken(lr_end=0.1), [1 - .09 * i for i in range(10)], atol=1e-3, rtol=0)


def test_the_official_rate_is_constant_and_no_rate_falls_below_its_end():
    torch.testing.assert_close(steps_taken(lr_end=1.0), [1.0] * 10, atol=1e-3, rtol=0)
    late = learner(lr_end=0.1)
    late.updates = 10 * late.config.planned_updates
    assert abs(late.left(late.config.lr_end) - 0.1) < 1e-9


def test_the_entropy_bonus_falls_along_the_same_line_if_it_is_to(monkeypatch):
    for end, wanted in ((1.0, [.5] * 10), (.1, [.5 - .045 * i for i in range(10)])):
        agent, used = learner(steps=110, prefill=10, batch_size=2, batch_length=5, train_ratio=1.0, entropy=.5, entropy_end=end), []
        dream = agent.agent.dream
        monkeypatch.setattr(agent.agent, "dream", lambda *args: used.append(float(args[-1])) or dream(*args))
        for _ in range(10):
            agent.update(batch_of(agent.config), stored(2))
        torch.testing.assert_close(used, wanted)


def test_the_entropy_that_is_given_is_the_one_that_counts(monkeypatch):
    """The loss of the actor is the one without a bonus, less eta times the entropy of every dreamed step that counts."""
    agent = learner(batch_size=2, batch_length=5, entropy=.7)
    def policy(eta):
        agent.agent.return_norm.range.zero_()
        losses = agent.agent.loss(batch_of(agent.config), agent.first_state(*stored(2)), Mode(), torch.arange(4), eta)[1]
        return losses["policy"].mean().detach()
    torch.manual_seed(0); none = policy(0.0)
    torch.manual_seed(0); some = policy(torch.tensor(.2))
    torch.manual_seed(0); more = policy(torch.tensor(.4))
    torch.manual_seed(0); own = policy(None)
    assert some < none and float(none - more) == pytest.approx(2 * float(none - some), rel=1e-3)
    assert float(none - own) == pytest.approx(3.5 * float(none - some), rel=1e-3)


def test_the_floor_of_the_returns_is_the_configurations():
    assert [float(learner(return_floor=floor).agent.return_norm.scale) for floor in (1.0, .3)] == pytest.approx([1, .3])


def test_a_few_more_random_steps_never_earn_fewer_updates():
    """Lesson 1: a prefill of 1,000 steps earned 1,100 of them a tenth of the updates of 1,000."""
    updates = [random_only(Config(steps=steps)).planned_updates for steps in range(20, 4000, 7)]
    assert updates == sorted(updates) and random_only(Config(steps=8000)) == Config(steps=8000)
    assert experiments.load("01_world_model_demo").updates(Config(steps=1100)) == 500          # what the live table counts to
    assert random_only(Config(steps=1100)).planned_updates == random_only(Config(steps=1000)).planned_updates == 500


def test_where_all_steps_are_random_all_are_trained_on():
    """Lesson 1: 256 random steps at a ratio of 30 and 6 x 5 rows an update."""
    assert replace(SMALL, steps=256, prefill=256, train_ratio=30.0).planned_updates == 256
