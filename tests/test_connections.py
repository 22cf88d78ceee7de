"""What is set really arrives: each hyperparameter in its loss, the scale of the observations everywhere, each seed."""

from dataclasses import replace

import pytest
import torch

import dreamer.agent
from dreamer.config import Config
from dreamer.learner import Learner
from dreamer.tools import modes
from dreamer.training.loop import Run, derived_seed
from dreamer.visual.episodes import observe as walk
from dreamer.visual.openloop import decode
from dreamer.world_model.encoder import ObservationSpec
from test_pitfalls import A, B, T, V, drawing, make_batch, new_agent, settings, wake
from toys import load_lesson, tiny

pytestmark = pytest.mark.usefixtures("tiny_size")

STARTS = torch.tensor([7, 2, 11])       # a subset, in no order: rows (1, 2), (0, 2) and (2, 1) of B x T


# ------------------------------------------------------------------ a subset of the states to dream from

def test_the_flag_of_each_start_belongs_to_the_row_that_it_is():
    agent, (batch, state) = new_agent(), make_batch()
    wake(agent.critic, agent.world_model.reward)
    batch["is_terminal"][0, 2] = True
    _, losses, _, _ = agent.loss(batch, state, drawing(), STARTS)
    for name in ("policy", "value"):
        assert losses[name].shape[1] == 3
        assert (losses[name][:, 1] == 0).all() and (losses[name][:, [0, 2]] != 0).all()


def test_dreamed_returns_bootstrap_the_rows_where_the_dreams_began(monkeypatch):
    agent, (batch, state) = new_agent(), make_batch()
    wake(agent.critic)
    seen, real = {}, dreamer.agent.replay_value_loss
    monkeypatch.setattr(dreamer.agent, "replay_value_loss", lambda reward, terminal, last, bootstrap, *others: seen.update(
        bootstrap=bootstrap) or real(reward, terminal, last, bootstrap, *others))
    _, model = agent.world_model.loss(batch, state, drawing())
    agent.replay_value(batch, model["feature"], torch.tensor([70.0, 20.0, 110.0]), STARTS)
    wanted = agent.value(agent.critic(model["feature"])).flatten()
    wanted[[7, 2, 11]] = torch.tensor([70.0, 20.0, 110.0])
    torch.testing.assert_close(seen["bootstrap"].transpose(0, 1).flatten(), wanted)


def test_dreams_begin_in_the_states_that_were_chosen_and_draw_their_actions(monkeypatch):
    agent, (batch, state) = new_agent(), make_batch()
    began, real = [], dreamer.agent.imagine
    monkeypatch.setattr(dreamer.agent, "imagine", lambda rssm, actor, deter, stoch, *others: began.append((deter, stoch)) or real(
        rssm, actor, deter, stoch, *others))
    *_, model = agent.loss(batch, state, drawing(), STARTS)
    for given, name in zip(began[0], ("deter", "stoch")):
        assert torch.equal(given, model[name].flatten(0, 1)[STARTS])
    firsts = [real(agent.world_model.rssm, agent.actor, *began[0], 1, drawing(seed))[1][0] for seed in range(8)]      # in the same states
    assert any(not torch.equal(firsts[0], first) for first in firsts)


@pytest.mark.parametrize("starts, dreams", [(4, 4), (0, B * T)])
def test_an_update_dreams_from_as_many_states_as_it_is_told(starts, dreams, monkeypatch):
    learner, (batch, (deter, stoch)) = Learner(ObservationSpec(vector=V), A, True, settings(starts=starts)), make_batch()
    counts, real = [], dreamer.agent.imagine
    monkeypatch.setattr(dreamer.agent, "imagine", lambda rssm, actor, deter, *others: counts.append(len(deter)) or real(
        rssm, actor, deter, *others))
    learner.update(batch, (deter, stoch.argmax(-1)))
    assert counts == [dreams]


# ------------------------------------------------------------------ hyperparameters

@pytest.mark.parametrize("name, value, moved", [
    ("lam", 0.5, {"policy", "value", "repval"}), ("entropy", 0.5, {"policy"}),
    ("slow_regulariser", 0.0, {"value", "repval"}), ("return_rate", 0.9, {"policy"}),
    ("discount_horizon", 5.0, {"con", "repval"}), ("free_nats", 50.0, {"dyn", "rep"})])
def test_a_hyperparameter_moves_the_losses_that_it_is_for_and_no_other(name, value, moved):
    def losses(**changes):
        agent, (batch, state) = new_agent(**changes), make_batch()
        wake(agent.critic, agent.slow_critic, agent.world_model.reward)
        torch.nn.init.normal_(agent.actor.out.weight)
        with torch.no_grad():
            agent.return_norm.range[1] = 5.0
            agent.critic.out.bias[200:] += 1.0
        return agent.loss(batch, state, drawing())[1]
    before, after = losses(), losses(**{name: value})
    assert {key for key in before if not torch.equal(before[key], after[key])} == moved


def test_the_gradient_norm_is_that_before_clipping():
    learner = Learner(ObservationSpec(vector=V), A, True, settings(agc=0.3))
    first, second = learner.optimizer.parameters[:2]
    first.grad, second.grad = torch.zeros_like(first), torch.zeros_like(second)
    first.grad.flatten()[0], second.grad.flatten()[0] = 60.0, 80.0
    assert float(learner.optimizer.step()) == pytest.approx(100.0)


def test_held_actions_last_as_long_as_they_are_told():
    """hold 1: a new action in each step, one in three of the toy's the same again; hold 1000: hardly ever a new one."""
    for hold, least, most in ((1.0, 0.5, 0.85), (1000.0, 0.0, 0.05)):
        run = Run(tiny(hold=hold, resume=False, prefill=150, steps=150, eval_every=1000, capacity=400))
        run.finish = lambda: None
        run.train()
        rows = run.replay.rows
        acted = rows["action"][0, :int(run.replay.count[0])]
        acted = acted[acted.sum(-1) > 0].argmax(-1)
        assert least <= (acted[1:] != acted[:-1]).float().mean() <= most


def test_random_actions_fill_their_range_and_do_not_leave_it():
    run = Run(tiny(env="toys:ToyContinuous-v0", hold=1.0, prefill=150, steps=150, eval_every=1000, capacity=400))
    run.finish = lambda: None
    run.train()
    action = run.replay.rows["action"][0, :int(run.replay.count[0])]
    assert action.abs().max() <= 1 and action.min() < -0.9 and action.max() > 0.9


# ------------------------------------------------------------------ the scale of the observations

def scaled(agent):
    with torch.no_grad():
        agent.world_model.standardize.mean.fill_(3.0)
        agent.world_model.standardize.std.fill_(5.0)
    return agent


def test_loss_acting_and_looking_see_observations_in_their_scale():
    """An agent that has measured mean 3 and deviation 5 sees x as one that has measured nothing sees (x - 3) / 5."""
    plain, measured, (batch, state) = new_agent(), scaled(new_agent()), make_batch()
    small = {**batch, "obs": {"vector": (batch["obs"]["vector"] - 3) / 5}}
    for ours, theirs in zip(measured.world_model.loss(batch, state, drawing()), plain.world_model.loss(small, state, drawing())):
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key])
    first = torch.zeros(B, dtype=torch.bool)
    row, small_row = ({"vector": b["obs"]["vector"][:, 0]} for b in (batch, small))
    acted = [agent.act(obs, state, batch["prev_action"][:, 0], first, drawing()) for agent, obs in
             ((measured, row), (plain, small_row), (plain, row))]
    torch.testing.assert_close(acted[0][1], acted[1][1])
    assert not torch.equal(acted[0][1][0], acted[2][1][0]) or not torch.equal(acted[0][1][1], acted[2][1][1])
    for ours, theirs in zip(walk(measured, batch["obs"], batch["prev_action"], drawing()),
                            walk(plain, small["obs"], batch["prev_action"], drawing())):
        torch.testing.assert_close(ours, theirs)


def test_declared_bounds_reach_the_scale(monkeypatch):
    def measured(bound):
        monkeypatch.setattr("dreamer.training.loop.declared_bounds", lambda space: [bound] * 4)
        run = Run(tiny(steps=60, resume=False, eval_every=1000))
        run.finish = lambda: None
        run.train()
        assert torch.equal(run.learner.average.world_model.standardize.std, run.learner.agent.world_model.standardize.std)
        return run.learner.agent.world_model.standardize.std
    torch.testing.assert_close(measured(1e12), 10 * measured(0.0))


def test_what_goes_on_is_told_without_the_discount_that_the_head_has_learned():
    agent = new_agent()
    last, gamma = agent.world_model.continues[-1], agent.world_model.discount
    deter, stoch = torch.zeros(1, 64), torch.zeros(1, 4, 4)
    for probability, wanted in ((0.9 * gamma, 0.9), (gamma, 1.0), (0.5 * gamma, 0.5)):
        with torch.no_grad():
            last.weight.zero_()
            last.bias.fill_(float(torch.logit(torch.tensor(probability, dtype=torch.float64))))
            assert float(decode(agent, deter, stoch)["continues"]) == pytest.approx(wanted, abs=1e-5)


# ------------------------------------------------------------------ seeds

def test_a_seed_is_that_of_everything_random_in_a_run(tmp_path):
    """A sampler that always began at seed 0 once made 'several seeds' of one."""
    def generators(seed, folder):
        run = Run(tiny(seed=seed, output=str(tmp_path / folder)))
        run.envs.close()
        return [g.get_state() for g in (run.replay.generator, run.collector.explore, run.learner.draw.generator)]
    first, again, other = generators(0, "a"), generators(0, "b"), generators(1, "c")
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not any(torch.equal(a, b) for a, b in zip(first, other))


def test_the_health_panel_and_the_open_loop_error_meet_episodes_of_no_training(monkeypatch, tmp_path):
    """Seed s of a run is that of its training episodes; derived_seed(s, 1, ...) and (s, 2) are those of its evaluations."""
    seen = []
    lesson = load_lesson("06_dreamer_lunar_lander")
    monkeypatch.setattr(lesson, "load_agent", lambda path: (None, replace(lesson.DEFAULTS, seed=7)))
    monkeypatch.setattr(lesson.health, "examine", lambda agent, env, episodes, seed, *others: seen.append(seed))
    monkeypatch.setattr(lesson.health, "save", lambda *others: None)
    lesson.draw_panel("checkpoint.pt", None, "", tmp_path)
    monkeypatch.setattr("dreamer.visual.episodes.record", lambda agent, env, episodes, seed, **others: seen.append(seed) or [[]])
    modes.open_loop_error(None, Config(seed=7))
    assert len(seen) == 2
    assert not {7, derived_seed(7, 2), *(derived_seed(7, 1, step) for step in range(0, 100_000, 250))} & set(seen)
