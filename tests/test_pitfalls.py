"""Mistakes that re-implementations of DreamerV3 really made, and one small exact test against each.

The numbers are those of a list of 42 pitfalls found in public code. Tested elsewhere:
  6   the last observation is a row of its own                  test_loop.py, test_probes.py
  9   truncation through environment, loop and replay           test_loop.py, test_probes.py
  34  the train ratio: updates earned per step                  test_loop.py
  35  windows are uniform over rows, not over episodes          test_replay.py
  36  rows come back from the buffer exactly as stored          test_replay.py
  37  moving averages, optimiser and generators are saved       test_resume.py
  39  what is called a dream has closed eyes                    test_visual.py, test_health.py, test_lesson_01.py
  42  each episode has a seed of its own, and each run          test_loop.py, test_connections.py
Nothing here can test these: judging a run by one evaluation (38: the results use windows and many
seeds), versions of other packages (40).
"""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dreamer.agent import Agent
from dreamer.behavior.actor_critic import dream_losses, replay_value_loss
from dreamer.behavior.imagination import Actor, imagine
from dreamer.behavior.returns import ReturnNorm, lambda_return
from dreamer.config import OFFICIAL, Config
from dreamer.distributions import (
    BoundedNormal, Categorical, Draw, Mode, latent_kl, make_bins, symexp, symlog, twohot_loss, twohot_mean)
from dreamer.layers import BlockLinear, RMSNorm
from dreamer.learner import Learner
from dreamer.optimizer import LaProp
from dreamer.training.envs import wrap
from dreamer.training.replay import Replay
from dreamer.world_model.decoder import Decoder
from dreamer.world_model.encoder import Encoder, ObservationSpec, one_hots
from dreamer.world_model.model import TwoHotHead
from dreamer.world_model.rssm import features

pytestmark = pytest.mark.usefixtures("tiny_size")

B, T, V, A = 3, 5, 4, 2
BINS = make_bins()


def settings(**changes):
    return Config(**{"stoch": 4, "imagination_horizon": 3, "starts": 0, **changes})


def new_agent(seed=0, discrete=True, **changes):
    torch.manual_seed(seed)
    return Agent(ObservationSpec(vector=V), A, discrete, settings(**changes))


def drawing(seed=0):
    return Draw(torch.Generator().manual_seed(seed))


def make_batch(seed=0):
    """Rows of noise in the middle of an episode, and a state before them."""
    generator = torch.Generator().manual_seed(seed)
    nothing = torch.zeros(B, T, dtype=torch.bool)
    batch = {"obs": {"vector": torch.randn(B, T, V, generator=generator)},
             "prev_action": F.one_hot(torch.randint(A, (B, T), generator=generator), A).float(),
             "reward": torch.randn(B, T, generator=generator),
             "is_first": nothing.clone(), "is_last": nothing.clone(), "is_terminal": nothing.clone()}
    stoch = F.one_hot(torch.randint(4, (B, 4), generator=generator), 4).float()
    return batch, (torch.rand(B, 64, generator=generator) - 0.5, stoch)


def wake(*heads):
    """Give zero-initialised heads some weights, so that gradients and values are not all zero."""
    for head in heads:
        torch.nn.init.normal_(head.out.weight, std=0.1)


def observe(agent, batch, state):
    """deter (B, T, D) and posterior logits, taking modes: no chance involved."""
    tokens = agent.world_model.encoder(batch["obs"])
    deter, _, logits = agent.world_model.rssm.observe(tokens, batch["prev_action"], batch["is_first"], state, Mode())
    return deter, logits


def gradient(loss, module):
    """Largest absolute gradient of a loss in each parameter of a module, one number per parameter."""
    grads = torch.autograd.grad(loss.sum(), list(module.parameters()), retain_graph=True, allow_unused=True)
    return [0.0 if g is None else float(g.abs().max()) for g in grads]


def some_dream(horizon=3, dreams=2, seed=0, **changes):
    """Arguments of `dream_losses` with rewards 0, continues 1, values 0; the logits of the actor."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(horizon, dreams, A, generator=generator, requires_grad=True)
    action = F.one_hot(torch.randint(A, (horizon, dreams), generator=generator), A).float()
    zeros = torch.zeros(horizon + 1, dreams)
    return {"reward": zeros, "continues": zeros + 1, "value": zeros, "slow_value": zeros[1:],
            "policy": Categorical(logits, 0.01), "action": action,
            "value_logits": torch.randn(horizon, dreams, 255, generator=generator, requires_grad=True),
            "bins": BINS, "norm": ReturnNorm(), "lam": 0.95, "entropy_scale": 0.0, **changes}, logits


def judged(agent, monkeypatch, reward, continues):
    """Make the world model of an agent predict reward[i], continues[i] in step i of every dream."""
    def judge(feature):
        shape = feature.shape[:2]
        column = lambda x: torch.as_tensor(x, dtype=torch.float32).expand(shape[::-1]).T.clone()
        return column(reward), column(continues), torch.zeros(shape)
    monkeypatch.setattr(agent, "judge", judge)


# ------------------------------------------------------------------ alignment

def test_pitfall_01_the_action_before_a_row_moves_that_row_and_none_before():
    """a_{t-1} is fed together with o_t: changing entry t of prev_action changes h_t, not h_{t-1}."""
    agent, (batch, state) = new_agent(), make_batch()
    before, _ = observe(agent, batch, state)
    batch["prev_action"][:, 2] = 1 - batch["prev_action"][:, 2]
    after, _ = observe(agent, batch, state)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.isclose(before[:, 2], after[:, 2]).all(-1).any()


def test_pitfall_01_acting_step_by_step_is_training_on_the_sequence():
    """The states met while acting are those that training computes from the stored rows."""
    agent, (batch, _) = new_agent(), make_batch()
    batch["is_first"][:, 0] = True
    batch["is_first"][1, 3] = True
    batch["prev_action"][:, 0] = 0
    state, action = agent.world_model.rssm.initial(B), torch.zeros(B, A)
    deters, actions = [], [action]
    for t in range(T):
        action, state = agent.act({"vector": batch["obs"]["vector"][:, t]}, state, action,
                                  batch["is_first"][:, t], Mode())
        deters.append(state[0])
        actions.append(action)
    batch["prev_action"] = torch.stack(actions[:-1], 1)
    deter, _ = observe(agent, batch, agent.world_model.rssm.initial(B))
    torch.testing.assert_close(torch.stack(deters, 1), deter)


def test_pitfall_01_in_a_dream_action_i_is_chosen_in_state_i_and_leads_to_state_i_plus_1():
    """The same order as while acting: no action is already inside the state it is chosen in."""
    agent, (_, (deter, stoch)) = new_agent(), make_batch()
    rssm = agent.world_model.rssm
    torch.nn.init.normal_(agent.actor.out.weight)
    feature, action = imagine(rssm, agent.actor, deter, stoch, 3, Mode())
    assert torch.equal(feature[0], features(deter, stoch))
    for i in range(4):
        assert torch.equal(action[i], agent.actor(feature[i]).mode())
        if i < 3:
            deter, stoch = rssm.imagine(deter, stoch, action[i], Mode())
            torch.testing.assert_close(feature[i + 1], features(deter, stoch))


def test_pitfall_02_reward_and_continue_are_learned_at_the_row_of_arrival():
    """The heads' targets at row t are reward_t and is_terminal_t, read from the state at t."""
    agent, (batch, state) = new_agent(), make_batch()
    wm = agent.world_model
    wake(wm.reward)
    batch["is_terminal"][0, 2] = True
    losses, model = wm.loss(batch, state, drawing())
    assert torch.equal(model["feature"], features(model["deter"], model["stoch"]))
    torch.testing.assert_close(losses["rew"], wm.reward.loss(wm.reward(model["feature"]), batch["reward"]))
    p = wm.continue_logit(model["feature"]).sigmoid()
    label = (1 - batch["is_terminal"].float()) * agent.config.discount
    torch.testing.assert_close(losses["con"], -label * p.log() - (1 - label) * (1 - p).log())


def test_pitfall_02_the_first_action_of_a_dream_earns_the_reward_of_state_1(monkeypatch):
    """With continue 0 on arrival, the return of step t is the reward of state t + 1 alone."""
    agent, (batch, state) = new_agent(), make_batch()
    judged(agent, monkeypatch, [5.0, 1.0, 2.0, 3.0], [0.0] * 4)
    _, model = agent.world_model.loss(batch, state, drawing())
    _, _, returns, _ = agent.dream(model, torch.arange(4), None, drawing())
    assert returns.T.tolist() == [[1.0, 2.0, 3.0]] * 4


def test_pitfall_03_lambda_return_by_hand():
    """R_1 = 2 + .8 (.5 x 30 + .5 x 30) = 26, R_0 = 1 + .9 (.5 x 20 + .5 x 26) = 21.7.

    With v_t in the place of v_{t+1} it would be 1 + .9 (.5 x 10 + ...): less than 18.
    """
    column = lambda *x: torch.tensor(x).unsqueeze(1)
    returns = lambda_return(reward=column(7.0, 1.0, 2.0), terminal=1 - column(0.3, 0.9, 0.8), last=torch.zeros(3, 1),
                            bootstrap=column(10.0, 20.0, 30.0), discount=1.0, lam=0.5)
    torch.testing.assert_close(returns, column(21.7, 26.0))


def test_pitfall_04_the_weight_of_a_step_excludes_what_its_own_action_causes():
    """An action that ends the episode keeps its full weight; what comes after it has none."""
    continues = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    given, _ = some_dream(continues=continues, reward=torch.ones(4, 2))
    policy_loss, value_loss, _, _ = dream_losses(**given)
    for loss in (policy_loss, value_loss):
        assert (loss != 0).tolist() == [[True, False], [False, False], [False, False]]


def test_pitfall_05_the_previous_action_is_reset_with_the_state():
    """In the first row of an episode the action of the last episode changes nothing, not a bit."""
    agent, (batch, state) = new_agent(), make_batch()
    batch["is_first"][:, 2] = True
    before, _ = observe(agent, batch, state)
    batch["prev_action"][:, 2] = 1 - batch["prev_action"][:, 2]
    assert torch.equal(before, observe(agent, batch, state)[0])
    batch["prev_action"][:, 2] = 0          # the zero vector, not the one-hot code of action 0
    assert torch.equal(before, observe(agent, batch, state)[0])


def test_pitfall_07_the_last_row_of_an_episode_still_remembers_it():
    """The reset happens at is_first, not one row earlier: else the final reward is read from a blank."""
    agent, (batch, state) = new_agent(), make_batch()
    batch["is_first"][:, 3] = True
    before, _ = observe(agent, batch, state)
    after, _ = observe(agent, batch, (state[0] + 1, state[1]))
    assert not torch.isclose(before[:, 2], after[:, 2]).all(-1).any()


def test_pitfall_08_nothing_of_an_episode_reaches_the_next():
    """After is_first, neither the old observations nor the state before the window matter."""
    agent, (batch, state) = new_agent(), make_batch()
    batch["is_first"][:, 3] = True
    before, logits = observe(agent, batch, state)
    batch["obs"]["vector"][:, :3] += 1
    after, changed = observe(agent, batch, (state[0] + 1, state[1].flip(-1)))
    assert torch.equal(before[:, 3:], after[:, 3:]) and torch.equal(logits[:, 3:], changed[:, 3:])
    assert not torch.isclose(before[:, 2], after[:, 2]).all(-1).any()


# ------------------------------------------------------------------ termination

def test_pitfall_09_truncation_teaches_the_continue_head_nothing():
    """is_last alone leaves every loss of the world model as it is."""
    agent, (batch, state) = new_agent(), make_batch()
    plain, _ = agent.world_model.loss(batch, state, drawing())
    batch["is_last"][:, 2] = True
    cut, _ = agent.world_model.loss(batch, state, drawing())
    assert all(torch.equal(plain[name], cut[name]) for name in plain)


def test_pitfall_09_a_truncated_row_bootstraps_and_a_terminal_one_does_not():
    """Three columns: the episode goes on, is truncated, or terminates at row 1."""
    reward, value = torch.ones(3, 3), torch.full((3, 3), 8.0)
    terminal, last = torch.zeros(3, 3), torch.zeros(3, 3)
    last[1, 1:] = 1
    terminal[1, 2] = 1
    reward[2] = 100
    returns = lambda_return(reward, terminal, last, value, discount=0.5, lam=1.0)
    assert returns[0].tolist() == [1 + 0.5 * (100 + 0.5 * 8), 1 + 0.5 * 8, 1.0]


def test_pitfall_09_the_row_that_ends_an_episode_has_no_next_step_to_learn_from():
    """What follows is_last in a window is another episode: the critic's loss there is exactly 0."""
    last = torch.zeros(4, 2, dtype=torch.bool)
    last[1, 0] = True
    loss = replay_value_loss(torch.ones(4, 2), torch.zeros(4, 2), last, torch.zeros(4, 2), torch.zeros(4, 2, 255),
                             torch.zeros(4, 2), BINS, 0.9, 0.95)
    assert (loss == 0).tolist() == [[False, False], [True, False], [False, False]]


def test_pitfall_10_the_discount_counts_exactly_once(monkeypatch):
    """The head learns discount x P(continue), so reward 1 forever is worth 1 / (1 - discount) in a dream."""
    agent, (batch, state) = new_agent(discount_horizon=10.0), make_batch()
    batch["is_terminal"][1] = True
    continue_head = agent.world_model.continues[-1]
    torch.nn.init.zeros_(continue_head.weight)
    torch.nn.init.constant_(continue_head.bias, math.log(0.9 / 0.1))
    losses, model = agent.world_model.loss(batch, state, drawing())
    slope, = torch.autograd.grad(losses["con"][0].sum(), continue_head.bias, retain_graph=True)
    torch.testing.assert_close(slope, torch.zeros(1), atol=1e-5, rtol=0)        # .9 is what it should say
    terminal, = torch.autograd.grad(losses["con"][1].mean(), continue_head.bias)
    torch.testing.assert_close(terminal, torch.tensor([0.9]))                   # and 0 at a terminal
    judged(agent, monkeypatch, [1.0] * 4, [0.9] * 4)
    monkeypatch.setattr(agent, "value", lambda logits: torch.full(logits.shape[:-1], 10.0))
    _, _, returns, _ = agent.dream(model, torch.arange(4), None, drawing())
    torch.testing.assert_close(returns, torch.full((3, 4), 10.0))


def test_pitfall_10_replayed_rewards_are_discounted_once(monkeypatch):
    """Reward 1 forever, bootstrap 10, discount .9: the target of the critic is 10 everywhere."""
    agent, (batch, state) = new_agent(discount_horizon=10.0), make_batch()
    wake(agent.critic)
    batch["reward"][:] = 1
    _, model = agent.world_model.loss(batch, state, drawing())
    monkeypatch.setattr(agent, "value", lambda logits: torch.full(logits.shape[:-1], 10.0))
    nowhere = torch.zeros(0, dtype=torch.long)
    loss = agent.replay_value(batch, model["feature"], torch.zeros(0), nowhere)
    logits = agent.critic(model["feature"])[:, :-1].transpose(0, 1)
    expected = sum(agent.critic.loss(logits, torch.full((T - 1, B), x)) for x in (10.0, 0.0))   # slow critic: 0
    torch.testing.assert_close(loss, expected)


def test_pitfall_11_dreams_continue_softly():
    """A continue probability of 3/4 enters the dream as 3/4, not as 1, and not as its logit."""
    agent, (_, (deter, stoch)) = new_agent(), make_batch()
    continue_head = agent.world_model.continues[-1]
    torch.nn.init.zeros_(continue_head.weight)
    torch.nn.init.constant_(continue_head.bias, math.log(3))
    continues = agent.judge(features(deter, stoch).unsqueeze(0))[1]
    torch.testing.assert_close(continues, torch.full((1, B), 0.75))


def test_pitfall_12_actor_and_critic_are_weighted_by_the_chance_to_be_there():
    """Weights 1, .5, .25 for a dream that continues with probability one half."""
    given, _ = some_dream(reward=torch.randn(4, 2))
    unweighted = {"continues": torch.ones(4, 2), "lam": 0.0}
    halved = torch.tensor([1.0, 0.5, 0.5, 1.0]).unsqueeze(1).expand(4, 2)
    plain = dream_losses(**{**given, **unweighted, "norm": ReturnNorm()})
    weighed = dream_losses(**{**given, "continues": halved, "lam": 0.0, "norm": ReturnNorm()})
    weight = torch.tensor([1.0, 0.5, 0.25]).unsqueeze(1)
    for loss, base in zip(weighed[:2], plain[:2]):      # values are 0: the returns do not change
        torch.testing.assert_close(loss, weight * base)


def test_pitfall_13_a_dream_that_starts_in_a_terminal_state_teaches_nothing():
    """Terminal rows are among the starts; the data's own flag takes all weight from them."""
    agent, (batch, state) = new_agent(), make_batch()
    wake(agent.critic, agent.world_model.reward)
    batch["is_terminal"][1] = True
    batch["is_last"][2] = True                                  # cut off by time: not dead (pitfall 9)
    _, losses, _, _ = agent.loss(batch, state, drawing())
    dead = torch.zeros(B, T, dtype=torch.bool)
    dead[1] = True
    for name in ("policy", "value"):
        assert (losses[name][:, dead.flatten()] == 0).all() and (losses[name][:, ~dead.flatten()] != 0).all()


# ------------------------------------------------------------------ KL and latents

def test_pitfall_14_dyn_trains_the_prior_and_rep_the_posterior():
    """In a window of one row: no other way from one to the other."""
    agent, (batch, state) = new_agent(free_nats=0.0), make_batch()
    batch = {"obs": {"vector": batch["obs"]["vector"][:, :1]}, **{k: v[:, :1] for k, v in batch.items() if k != "obs"}}
    losses, _ = agent.world_model.loss(batch, state, drawing())
    rssm = agent.world_model.rssm
    assert max(gradient(losses["dyn"], rssm.post_logits)) == 0 < min(gradient(losses["dyn"], rssm.prior_logits))
    assert max(gradient(losses["rep"], rssm.prior_logits)) == 0 < min(gradient(losses["rep"], rssm.post_logits))
    assert max(gradient(losses["dyn"], agent.world_model.encoder)) == 0
    assert min(gradient(losses["dyn"], rssm.gates)) > 0        # dyn still trains the recurrent state
    assert agent.config.beta_dyn == 10 * agent.config.beta_rep > 0        # the balance of the paper, in both recipes
    assert OFFICIAL["beta_dyn"] == 10 * OFFICIAL["beta_rep"] > 0


def test_pitfall_15_free_nats_clamp_the_sum_over_latents_of_each_row():
    """Some rows below the limit and some above it: each is clamped on its own, after the sum."""
    agent, (batch, state) = new_agent(), make_batch()
    with torch.no_grad():
        _, model = agent.world_model.loss(batch, state, drawing())
        post, prior = ((0.99 * model[k].softmax(-1) + 0.01 / 4) for k in ("post", "prior"))
        kl = (post * (post / prior).log()).sum((-2, -1))
        agent.world_model.free_nats = kl.median()
        losses, _ = agent.world_model.loss(batch, state, drawing())
    for name in ("dyn", "rep"):
        torch.testing.assert_close(losses[name], kl.clamp(min=kl.median()))


def test_pitfall_16_the_kl_is_bounded_because_unimix_is_inside():
    """Logits of 1e4 on different classes: at most log(.9925 / .0025) nats for each latent."""
    post, prior = F.one_hot(torch.zeros(32).long(), 4) * 1e4, F.one_hot(torch.ones(32).long(), 4) * 1e4
    kl = float(latent_kl(post, prior, 0.01))
    high, low = 0.99 + 0.01 / 4, 0.01 / 4
    assert kl == pytest.approx(32 * (high * math.log(high / low) + low * math.log(low / high)), rel=1e-5)


def test_pitfall_17_below_the_free_nats_neither_side_is_pushed():
    """A hard maximum: no straight-through gradient for prior or posterior."""
    agent, (batch, state) = new_agent(free_nats=1e3), make_batch()
    losses, _ = agent.world_model.loss(batch, state, drawing())
    for name in ("dyn", "rep"):
        assert (losses[name] == 1e3).all() and max(gradient(losses[name], agent.world_model.rssm)) == 0


def test_pitfall_18_the_gru_keeps_three_quarters_and_does_not_norm_what_it_feeds_back():
    """With zero gates: h_t = (1 - sigmoid(-1)) h_{t-1} exactly."""
    agent, (_, (deter, stoch)) = new_agent(), make_batch()
    rssm = agent.world_model.rssm
    for parameter in rssm.gates.parameters():
        torch.nn.init.zeros_(parameter)
    after, _ = rssm.imagine(deter, stoch, torch.zeros(B, A), Mode())
    torch.testing.assert_close(after, deter * (1 - 1 / (1 + math.e)))


def test_pitfall_18_block_layers_start_with_the_fan_in_of_all_their_inputs():
    """Variance 1 / 512, not 8 / 512; the truncation at two deviations is made up for."""
    torch.manual_seed(0)
    weight = BlockLinear(512, 4096, 8).weight.detach()
    assert weight.shape == (8, 64, 512)
    assert float(weight.std()) * math.sqrt(512) == pytest.approx(1, rel=0.01)
    assert float(weight.abs().max()) * math.sqrt(512) == pytest.approx(2 * 1.1368, rel=0.01)


def test_pitfall_18_rms_norm_has_a_scale_and_nothing_else():
    """No offset, no mean subtraction, 1e-4 inside the root."""
    norm = RMSNorm(2)
    assert [name for name, _ in norm.named_parameters()] == ["scale"]
    torch.testing.assert_close(norm(torch.tensor([0.03, 0.04])), torch.tensor([0.03, 0.04]) / math.sqrt(0.00125 + 1e-4))
    torch.testing.assert_close(norm(torch.tensor([5.0, 5.0])), torch.ones(2), rtol=1e-4, atol=0)


def test_pitfall_19_symlog_is_exact_at_zero_and_odd():
    assert symlog(torch.tensor([0.0, -0.0])).tolist() == [0.0, 0.0]
    x = torch.tensor([1e-6, 0.5, 99.0, 1e6])
    assert torch.equal(symlog(-x), -symlog(x))
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-4, atol=0)
    torch.testing.assert_close(symlog(x[2]), torch.tensor(math.log(100)))


def test_pitfall_19_the_encoder_symlogs_floats_and_leaves_one_hots_alone():
    encoder, seen = Encoder(ObservationSpec(vector=2, symbols=(3,)), units=8, depth=1), []
    encoder.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder({"vector": torch.tensor([[99.0, -99.0]]), "symbols": torch.tensor([[1]])})
    torch.testing.assert_close(seen[0], torch.tensor([[math.log(100), -math.log(100), 0, 1, 0]]))


def test_pitfall_20_the_decoder_sums_over_all_numbers_of_an_observation():
    """Sum, no mean, no one half: else the KL outweighs the reconstruction."""
    decoder = Decoder(ObservationSpec(vector=5, symbols=(3, 3), image=1), 8, 8, 8, 1, 1)
    obs = {"vector": torch.full((2, 5), math.e ** 3 - 1), "symbols": torch.zeros(2, 2),
           "image": torch.full((2, 64, 64, 1), 255, dtype=torch.uint8)}
    output = {"vector": torch.ones(2, 5), "symbols": torch.zeros(2, 2, 3), "image": torch.full((2, 64, 64, 1), 0.5)}
    expected = 5 * 2 ** 2 + 2 * math.log(3) + 64 * 64 * 0.5 ** 2
    torch.testing.assert_close(decoder.loss(output, obs), torch.full((2,), expected))


def test_symbols_of_different_class_counts_are_judged_one_by_one():
    spec, generator = ObservationSpec(vector=2, symbols=(3, 2, 5)), torch.Generator().manual_seed(0)
    decoder = Decoder(spec, 8, 8, 8, 1, 1)
    deter, stoch = (torch.randn(4, *size, generator=generator) for size in ((8,), (2, 4)))
    obs = {"vector": torch.zeros(4, 2), "symbols": torch.tensor([[2, 1, 4], [0, 0, 0], [1, 1, 3], [2, 0, 1]])}
    flat = decoder.out(decoder.mlp(torch.cat([stoch.flatten(1), deter], -1)))
    expected = (flat[:, :2] ** 2).sum(-1)
    for m, logits in enumerate(flat[:, 2:].split([3, 2, 5], -1)):
        expected = expected + F.cross_entropy(logits, obs["symbols"][:, m], reduction="none")
    torch.testing.assert_close(decoder.loss(decoder(deter, stoch), obs), expected)


def test_one_hots_of_symbols_stand_side_by_side():
    expected = torch.tensor([[0, 0, 1, 0, 1, 1, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0, 0, 0, 0, 1.0]])
    assert torch.equal(one_hots(torch.tensor([[2, 1, 0], [0, 0, 4]]), (3, 2, 5)), expected)


# ------------------------------------------------------------------ two-hot and critic

@pytest.mark.parametrize("target", [0.0, 0.3, -1600.0, 500.0, 1e6, -3e8])
def test_pitfall_21_any_return_is_coded_such_that_the_mean_of_its_code_is_itself(target):
    """No clipping at +-20, and interpolation between *raw* bins, not between their symlogs."""
    log_probs = torch.full((255,), -1.0, requires_grad=True)
    code, = torch.autograd.grad(-twohot_loss(log_probs, torch.tensor(target), BINS), log_probs)
    assert float(code.sum()) == pytest.approx(1) and (code >= 0).all() and (code > 0).sum() <= 2
    assert float(code.double() @ BINS.double()) == pytest.approx(target, rel=1e-5, abs=1e-6)


def test_pitfall_21_bins_reach_beyond_1e8_and_the_last_ones_take_what_is_further():
    assert BINS.max() > 4.8e8 and BINS.min() < -4.8e8
    log_probs = torch.linspace(-1, 1, 255)
    assert float(twohot_loss(log_probs, torch.tensor(1e12), BINS)) == -1
    assert float(twohot_loss(log_probs, torch.tensor(-1e12), BINS)) == 1


def test_pitfall_22_the_mean_is_taken_in_raw_space():
    """Half on 0 and half on b is b / 2; a mean of symlogs would say about sqrt(b)."""
    logits = torch.full((255,), -1e9)
    logits[[127, 200]] = 0
    torch.testing.assert_close(twohot_mean(logits, BINS), BINS[200] / 2)


def test_pitfall_22_bins_are_symmetric_with_zero_in_the_middle():
    assert torch.equal(BINS, -BINS.flip(0)) and BINS[127] == 0 and len(BINS) == 255


@pytest.mark.parametrize("shift", [0.0, 3.7, -80.0])
def test_pitfall_23_uniform_logits_mean_exactly_zero_in_single_precision(shift):
    """A plain sum of p b gives 1.0 or -.25 here, and each predicted reward that much noise."""
    logits = torch.full((64, 255), shift)
    assert (twohot_mean(logits, BINS) == 0).all()


def test_pitfall_23_nearly_uniform_logits_have_nearly_the_mean_of_double_precision():
    """Here even a sum of mirrored products is off by .3."""
    logits = 1e-4 * torch.randn(256, 255, generator=torch.Generator().manual_seed(0))
    assert (twohot_mean(logits, BINS) - logits.softmax(-1).double() @ BINS.double()).abs().max() < 1e-2


def test_pitfall_24_reward_and_critic_start_at_exactly_zero():
    """Weights and biases of the last layer; the actor starts nearly uniform."""
    agent = new_agent()
    feature = torch.randn(50, 64 + 16)
    for head in (agent.world_model.reward, agent.critic, agent.slow_critic):
        assert not head.out.weight.any() and not head.out.bias.any()
        assert not head.mean(head(feature)).any()
    probs = agent.actor(feature).probs.detach()
    assert 0 < float((probs - 0.5).abs().max()) < 0.05


def test_pitfall_25_returns_bootstrap_from_the_online_critic():
    """The slow critic changes the critic's loss but no return, and the online critic changes returns."""
    agent, (batch, state) = new_agent(), make_batch()
    wake(agent.critic)
    _, model = agent.world_model.loss(batch, state, drawing())
    dream = lambda: agent.dream(model, torch.arange(4), torch.ones(4), drawing())
    _, value_loss, returns, _ = dream()
    wake(agent.slow_critic)
    torch.nn.init.constant_(agent.slow_critic.out.bias[200:], 5.0)
    _, regularised, same, _ = dream()
    assert torch.equal(returns, same) and not torch.isclose(value_loss, regularised).any()
    torch.nn.init.constant_(agent.critic.out.bias[200:], 5.0)
    assert not torch.isclose(returns, dream()[2]).any()


def test_pitfall_25_the_slow_critic_is_a_target_with_a_weight_of_its_own():
    """Loss = cross-entropy with the return + 1 x cross-entropy with the slow critic's mean."""
    given, _ = some_dream(slow_value=torch.full((3, 2), 7.0), reward=torch.full((4, 2), 2.0), lam=0.0)
    _, value_loss, _, _ = dream_losses(**given)
    log_probs = given["value_logits"].log_softmax(-1)
    expected = sum(twohot_loss(log_probs, torch.full((3, 2), x), BINS) for x in (2.0, 7.0))
    torch.testing.assert_close(value_loss, expected)


def test_pitfall_25_the_slow_critic_follows_after_every_update():
    """A copy at first, then 2 % of the way each time, and never a gradient."""
    learner = Learner(ObservationSpec(vector=V), A, True, settings(warmup=0, slow_rate=0.02))
    critic, slow = learner.agent.critic.out.bias, learner.agent.slow_critic.out.bias
    assert all(torch.equal(a, b) for a, b in zip(learner.agent.critic.parameters(), learner.agent.slow_critic.parameters()))
    batch, (deter, stoch) = make_batch()
    learner.update(batch, (deter, stoch.argmax(-1)))
    assert critic.any() and slow.grad is None
    torch.testing.assert_close(slow, 0.02 * critic)


def test_pitfall_25_replayed_rewards_train_the_critic_and_the_world_model():
    """The replay value loss reaches encoder and recurrent state."""
    agent, (batch, state) = new_agent(), make_batch()
    wake(agent.critic)
    _, losses, _, _ = agent.loss(batch, state, drawing())
    for module in (agent.critic, agent.world_model.encoder, agent.world_model.rssm.gates):
        assert min(gradient(losses["repval"], module)) > 0


def test_pitfall_26_a_trained_head_predicts_in_raw_units():
    """Trained on -300, the head says -300: neither its symlog nor a clipped value."""
    torch.manual_seed(0)
    head, feature = TwoHotHead(4, 16, 1, 255), torch.randn(16, 4)
    optimizer = LaProp(head.parameters(), lr=0.05, warmup=0)
    for _ in range(100):
        head.loss(head(feature), torch.full((16,), -300.0)).mean().backward()
        optimizer.step()
    torch.testing.assert_close(head.mean(head(feature)), torch.full((16,), -300.0), rtol=0.05, atol=0)


# ------------------------------------------------------------------ actor

def test_pitfall_27_the_critic_brings_in_what_lies_beyond_the_dream():
    """A value in the last state of a dream reaches the return of its first action."""
    value = torch.zeros(4, 2)
    value[-1] = 10
    given, _ = some_dream(value=value, lam=0.5)
    torch.testing.assert_close(dream_losses(**given)[2][0], torch.full((2,), 2.5))


def test_pitfall_27_a_dream_trains_actor_and_critic_and_nothing_else():
    """No gradient of the dream's losses in the world model, none of the actor's in the critic."""
    agent, (batch, state) = new_agent(), make_batch()
    wake(agent.critic, agent.world_model.reward)
    _, losses, _, _ = agent.loss(batch, state, drawing())
    for name in ("policy", "value"):
        assert max(gradient(losses[name], agent.world_model)) == 0
    assert max(gradient(losses["policy"], agent.critic)) == 0 < min(gradient(losses["value"], agent.critic))
    assert max(gradient(losses["value"], agent.actor)) == 0 < min(gradient(losses["policy"], agent.actor))


@pytest.mark.parametrize("discrete", [True, False])
def test_pitfall_27_the_policy_gradient_is_reinforce_with_the_right_sign(discrete):
    """Gradient = -advantage x gradient of log pi(a): through the log-probability alone."""
    torch.manual_seed(0)
    actor, feature = Actor(8, A, discrete, 16, 0.01), torch.randn(3, 2, 8)
    action = actor(feature).sample(drawing()).detach()
    reward = torch.tensor([0.0, 0.5, -0.5, 0.3]).unsqueeze(1).expand(4, 2)
    given, _ = some_dream(reward=reward, policy=actor(feature), action=action, lam=0.0)
    grads = torch.autograd.grad(dream_losses(**given)[0].sum(), list(actor.parameters()))
    expected = torch.autograd.grad(-(actor(feature).log_prob(action) * reward[1:]).sum(), list(actor.parameters()))
    torch.testing.assert_close(grads, expected)


def test_pitfall_28_no_action_ever_becomes_impossible():
    """1 % of the uniform distribution stays in the actor, and its entropy never reaches 0."""
    agent = new_agent()
    torch.nn.init.constant_(agent.actor.out.bias[0], 1e4)
    policy = agent.actor(torch.randn(5, 64 + 16))
    torch.testing.assert_close(policy.probs, torch.tensor([0.995, 0.005]).expand(5, 2))
    assert (policy.entropy() > 0.03).all() and policy.log_prob(torch.tensor([0.0, 1.0])).isfinite().all()
    drawn = Categorical(torch.tensor([1e4, 0.0]).expand(10_000, 2), 0.01).sample(drawing())
    assert 20 < drawn[:, 1].sum() < 90     # 50 expected, 7 the deviation


def test_pitfall_28_the_entropy_is_a_bonus():
    """With no advantage the policy loss is -eta x entropy: descending it spreads the policy."""
    given, _ = some_dream(entropy_scale=0.1)
    torch.testing.assert_close(dream_losses(**given)[0], -0.1 * given["policy"].entropy())


def test_pitfall_29_the_scale_of_returns_is_updated_before_it_is_used():
    """From percentiles 0 to 1 % of the way to 5 and 95: S = .9 is raised to 1, 1 % of 9000 is 90."""
    returns = torch.arange(101.0)
    norm = ReturnNorm(rate=0.01)
    assert norm.range.tolist() == [0, 0]
    assert float(norm.update(returns)) == 1
    torch.testing.assert_close(norm.range, torch.tensor([0.05, 0.95]))
    assert float(ReturnNorm(rate=0.01).update(100 * returns)) == pytest.approx(90)


@pytest.mark.parametrize("size, divisor", [(0.01, 1.0), (1e5, 1000.0)])
def test_pitfall_29_large_advantages_are_scaled_down_and_small_ones_never_up(size, divisor):
    """Returns of 0 and `size`: 1 % of their range, but at least 1, divides the advantage."""
    reward = torch.tensor([0.0, size]).expand(4, 2)
    given, logits = some_dream(reward=reward, lam=0.0, value=torch.full((4, 2), size / 2), continues=torch.zeros(4, 2))
    given["continues"] = torch.tensor([1.0, 0, 0, 0]).unsqueeze(1).expand(4, 2)
    policy_loss, _, _, _ = dream_losses(**given)
    advantage = (reward[0] - size / 2) / divisor
    torch.testing.assert_close(policy_loss[0], -given["policy"].log_prob(given["action"])[0] * advantage)


def test_pitfall_30_the_continuous_actor_is_a_plain_gaussian():
    """Mean in [-1, 1], deviation in [.1, 1], nothing squashed, so density and entropy need no correction."""
    raw = torch.tensor([[0.3, 50.0, -50.0]]), torch.tensor([[0.0, 50.0, -50.0]])
    policy = BoundedNormal(*raw)
    torch.testing.assert_close(policy.mean, torch.tensor([[math.tanh(0.3), 1, -1]]))
    torch.testing.assert_close(policy.std, torch.tensor([[0.9 / (1 + math.exp(-2)) + 0.1, 1, 0.1]]))
    truth = torch.distributions.Normal(policy.mean, policy.std)
    samples = torch.stack([policy.sample(drawing(seed)) for seed in range(50)])
    assert samples.max() > 1.2
    torch.testing.assert_close(policy.log_prob(samples), truth.log_prob(samples).sum(-1))
    torch.testing.assert_close(policy.entropy(), truth.entropy().sum(-1))


def test_pitfall_31_one_unit_of_action_means_the_same_everywhere():
    """The environment clips and stretches; the replay buffer keeps the sample; the model divides it back."""
    env = wrap(gym.make("Pendulum-v1"))
    for action, torque in ((0.5, 1.0), (1.0, 2.0), (1.7, 2.0), (-1.7, -2.0)):
        env.reset(seed=0)
        env.step(np.array([action], np.float32))
        assert float(env.unwrapped.last_u) == torque
    rssm = new_agent(discrete=False).world_model.rssm
    embed = lambda *action: rssm.embed_action(torch.tensor(action))
    assert torch.equal(embed(1.7, -0.5), embed(1.0, -0.5)) and torch.equal(embed(-3.0, 0.2), embed(-1.0, 0.2))
    assert not torch.isclose(embed(0.5, 0.5), embed(0.25, 0.5)).all()


def test_pitfall_31_stored_actions_are_not_clipped():
    replay = Replay(10, 1, ObservationSpec(vector=1), 2, 3, 4, 1)
    sample = torch.tensor([[1.7, -2.5]])
    flags = {f"is_{name}": torch.zeros(1) for name in ("first", "last", "terminal")}
    row = {"obs_vector": torch.zeros(1, 1), "reward": torch.zeros(1), "deter": torch.zeros(1, 3),
           "stoch": torch.zeros(1, 4), "action": sample, **flags}
    for _ in range(2):
        replay.add(row, torch.tensor([0]))
    assert torch.equal(replay.sample(1)[0]["prev_action"][0], sample)


@pytest.mark.parametrize("discrete", [True, False])
def test_pitfall_32_greedy_acting_differs_from_sampled_in_the_actor_alone(discrete):
    """The latents are sampled in both modes: given the same draws, the same states; then mode or sample."""
    agent, (batch, state) = new_agent(discrete=discrete), make_batch()
    obs = {"vector": batch["obs"]["vector"].flatten(0, 1)}
    state = tuple(x.repeat_interleave(T, 0) for x in state)
    act = lambda seed, greedy: agent.act(
        obs, state, torch.zeros(B * T, A), torch.zeros(B * T, dtype=torch.bool), drawing(seed), greedy=greedy)
    greedy, after = act(0, True)
    sampled, same = act(0, False)
    assert torch.equal(after[0], same[0]) and torch.equal(after[1], same[1])
    assert torch.equal(greedy, agent.actor(features(*after)).mode()) and not torch.equal(greedy, sampled)
    assert not torch.equal(after[1], act(1, True)[1][1])


# ------------------------------------------------------------------ optimiser

def step_with(parameter, gradients, **changes):
    """The parameter after LaProp steps with the given gradients, and the optimiser."""
    optimizer = LaProp([parameter], **{"lr": 0.1, "warmup": 0, "agc": 1e9, **changes})
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter.detach().tolist(), optimizer


@pytest.mark.parametrize("size", [1.0, 1e-5])
def test_pitfall_33_laprop_by_hand(size):
    """Normalise by the bias-corrected scale first, then momentum, itself bias-corrected; epsilon is far below any gradient."""
    grads, value, nu, mu = [size * g for g in (2.0, -1.0, 10.0, 0.1)], 5.0, 0.0, 0.0
    for t, g in enumerate(grads, 1):
        nu = 0.999 * nu + 0.001 * g ** 2
        mu = 0.9 * mu + 0.1 * g / math.sqrt(nu / (1 - 0.999 ** t))
        value -= 0.1 * mu / (1 - 0.9 ** t)
    after, _ = step_with(torch.nn.Parameter(torch.tensor([5.0])), [[g] for g in grads])
    assert after == pytest.approx([value], rel=1e-5)


def test_pitfall_33_the_first_update_of_the_warm_up_changes_nothing():
    """The learning rate rises from 0: 0, 1/4, 2/4 ... of it, and stays at 1."""
    parameter = torch.nn.Parameter(torch.tensor([5.0]))
    moved = [5 - step_with(torch.nn.Parameter(torch.tensor([5.0])), [[1.0]] * n, warmup=4)[0][0] for n in range(1, 8)]
    assert moved == pytest.approx([0, 0.025, 0.075, 0.15, 0.25, 0.35, 0.45], abs=1e-5)
    assert step_with(parameter, [[7.0]], warmup=4)[0] == [5.0]


@pytest.mark.parametrize("value, limit", [([3.0, 4.0], 1.5), ([0.0, 0.0], 0.3e-3)])
def test_pitfall_33_every_tensor_is_clipped_against_its_own_norm(value, limit):
    """|g| <= .3 max(1e-3, |p|), for vectors such as biases too; smaller gradients stay as they are."""
    for grad, size in (([60.0, 80.0], limit), ([6e-5, 8e-5], 1e-4)):
        _, optimizer = step_with(torch.nn.Parameter(torch.tensor(value)), [grad], agc=0.3)
        clipped = (optimizer.state_dict()["nu"][0] / 0.001).sqrt()
        torch.testing.assert_close(clipped, torch.tensor([0.6, 0.8]) * size, rtol=1e-4, atol=0)


def test_pitfall_33_one_optimiser_moves_all_parameters_but_the_slow_critic():
    agent = new_agent()
    trained = {id(p) for p in agent.trained()}
    slow = {id(p) for p in agent.slow_critic.parameters()}
    assert trained == {id(p) for p in agent.parameters()} - slow and len(slow) > 0


# ------------------------------------------------------------------ replay, loop, the rest

def test_pitfall_37_the_policy_depends_on_what_is_observed():
    """Same state, same action before, other observation: other posterior, other features."""
    agent, (batch, state) = new_agent(), make_batch()
    _, logits = observe(agent, batch, state)
    batch["obs"]["vector"][:, 0] += 1
    _, changed = observe(agent, batch, state)
    assert not torch.isclose(logits[:, 0], changed[:, 0]).all(-1).any()


def test_pitfall_37_the_world_model_runs_once_per_update():
    learner, calls = Learner(ObservationSpec(vector=V), A, True, settings()), []
    learner.agent.world_model.encoder.register_forward_hook(lambda *_: calls.append(1))
    batch, (deter, stoch) = make_batch()
    learner.update(batch, (deter, stoch.argmax(-1)))
    assert len(calls) == 1


def test_pitfall_41_a_window_resets_only_where_an_episode_begins():
    """is_first is never set at the start of a window: the stored latents of the row before carry on."""
    agent, (batch, state) = new_agent(), make_batch()
    before, _ = observe(agent, batch, state)
    other, _ = observe(agent, batch, (state[0] + 1, state[1]))
    assert not torch.isclose(before[:, 0], other[:, 0]).all(-1).any()
    replay = numbered_replay(seed=0)
    batch, _, _ = replay.sample(50)
    assert torch.equal(batch["is_first"], batch["reward"] == 0)


def numbered_replay(seed):
    """30 rows whose reward is their number; one episode, so that row 0 alone is a first one."""
    replay = Replay(40, 1, ObservationSpec(vector=1), A, 3, 4, 2, seed=seed)
    for i in range(30):
        row = {"reward": torch.tensor([i]), "action": torch.zeros(1, A), "obs_vector": torch.zeros(1, 1),
               "deter": torch.zeros(1, 3), "stoch": torch.zeros(1, 4), "is_first": torch.tensor([i == 0]),
               "is_last": torch.zeros(1), "is_terminal": torch.zeros(1)}
        replay.add(row, torch.tensor([0]))
    return replay


def test_pitfall_42_seeds_are_independent_and_repeatable():
    """Other seeds: other weights, draws and replay samples. The same seed: the same of each."""
    def everything(seed):
        learner = Learner(ObservationSpec(vector=V), A, True, settings(seed=seed))
        weights = learner.agent.actor.out.weight.detach().flatten()
        draws = learner.draw.normal(torch.zeros(20), torch.ones(20))
        return weights, draws, numbered_replay(seed).sample(50)[0]["reward"].flatten()
    first, again, other = everything(0), everything(0), everything(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not any(torch.equal(a, b) for a, b in zip(first, other))
