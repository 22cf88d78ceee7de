"""Each switch of dreamer/tools/ablations.py changes what it says, and nothing else."""

from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F

from dreamer.behavior import actor_critic
from dreamer.distributions import Draw, Mode, symlog, twohot_code
from dreamer.learner import Learner
from dreamer.tools import ablations
from dreamer.tools.ablations import WITHOUT, configure, remove
from dreamer.training.validate import ConfigError
from dreamer.world_model.encoder import ObservationSpec
from toys import tiny

CRITIC_LOSS = actor_critic.critic_loss
SPEC, ACTIONS, B, T = ObservationSpec(vector=3, symbols=(4, 3)), 3, 4, 6
HEADS = {"rew", "value", "repval", "policy"}        # losses that depend on how reward and value are predicted
CHANGES = {     # losses and scales that differ on the same batch with the same weights
    "memory": {"rec", "rew", "con", "dyn", "rep", "policy", "value", "repval"}, "symlog": HEADS, "two-hot": HEADS,
    "floor": {"policy"}, "normalisation": {"policy"}, "free-nats": {"dyn", "rep"},
    "balance": {"scale of dyn", "scale of rep"}, "reconstruction": {"scale of rec"}}

pytestmark = pytest.mark.usefixtures("tiny_size")


def learner(name=None, spread=0.0):
    """A learner whose heads say other things than 0, but small ones; spread: of the returns it has met so far."""
    made = Learner(SPEC, ACTIONS, True, configure(tiny(), name) if name else tiny())
    generator = torch.Generator().manual_seed(1)
    for agent in (made.agent, made.average):
        generator.manual_seed(1)
        for head in (agent.world_model.reward, agent.critic, agent.slow_critic):
            head.out.weight.data = 0.3 * torch.randn(head.out.weight.shape, generator=generator)
            head.out.bias.data = -(torch.arange(len(head.bins)) - len(head.bins) // 2).abs().float()    # near 0
        agent.return_norm.range[1] = spread
    return made


def batch():
    generator = torch.Generator().manual_seed(2)
    none = torch.zeros(B, T, dtype=torch.bool)
    return {"obs": {"vector": torch.randn(B, T, 3, generator=generator),
                    "symbols": torch.randint(3, (B, T, 2), generator=generator)},
            "prev_action": F.one_hot(torch.randint(ACTIONS, (B, T), generator=generator), ACTIONS).float(),
            "reward": torch.rand(B, T, generator=generator),
            "is_first": none.clone(), "is_last": none, "is_terminal": none}


def start(made):
    """Latents before the first row: those of an agent in mid-episode."""
    rssm = made.agent.world_model.rssm
    generator = torch.Generator().manual_seed(3)
    stoch = F.one_hot(torch.randint(rssm.classes, (B, rssm.stoch), generator=generator), rssm.classes).float()
    return torch.randn(B, rssm.deter, generator=generator), stoch


def measure(made):
    """Losses and their scales on the batch: dict of name to number."""
    draw = Draw(torch.Generator().manual_seed(4))
    _, losses, _, _ = made.agent.loss(batch(), start(made), draw)
    return {**{name: float(loss.mean().detach()) for name, loss in losses.items()},
            **{f"scale of {name}": scale for name, scale in made.agent.scales.items()}}


def observed(made, rows, state):
    """Posterior along the rows, the likeliest latents: deter, stoch, logits."""
    world = made.agent.world_model
    tokens = world.encoder(world.see(rows["obs"]))
    return world.rssm.observe(tokens, rows["prev_action"], rows["is_first"], state, Mode())


# ------------------------------------------------------------------ all of them

@pytest.mark.parametrize("name", WITHOUT)
def test_a_switch_changes_what_it_names_and_nothing_else(name):
    spread = {"normalisation": 50.0, "floor": 0.2}.get(name, 0.0)
    whole, part = learner(spread=spread), learner(name, spread)
    for mine, theirs in zip(whole.agent.parameters(), part.agent.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    before = measure(whole)
    with remove(name, part):
        after = measure(part)
    assert {key for key in before if before[key] != after[key]} == CHANGES[name]


@pytest.mark.parametrize("name", WITHOUT)
def test_training_goes_on_without_the_part_and_is_whole_again_afterwards(name):
    made = learner(name)
    weights = [p.detach().clone() for p in made.agent.parameters()]
    with remove(name, made):
        for _ in range(3):
            metrics, latents = made.update(batch(), (start(made)[0], start(made)[1].argmax(-1)))
    assert all(torch.isfinite(value).all() for value in metrics.values()) and latents[0].shape[:2] == (B, T)
    changed = [not torch.equal(old, new) for old, new in zip(weights, made.agent.parameters())]
    assert any(changed) and actor_critic.critic_loss is CRITIC_LOSS


@pytest.mark.parametrize("name", sorted(ablations.PARTS))
def test_a_checkpoint_without_a_part_is_not_taken_for_a_whole_one(name):
    whole, part = learner(), learner()
    with remove(name, part):
        pass
    for one, other in ((whole, part), (part, whole)):
        with pytest.raises(RuntimeError, match="without_"):
            one.agent.load_state_dict(other.agent.state_dict())
    part.average.load_state_dict(part.agent.state_dict())       # the averaged agent goes without it, too


@pytest.mark.parametrize("name", WITHOUT)
def test_hyperparameters_change_where_the_part_is_one(name):
    before, after = asdict(tiny()), asdict(configure(tiny(), name))
    told = ablations.HYPERPARAMETERS[name](tiny()) if name in ablations.HYPERPARAMETERS else {}
    assert {key: after[key] for key in after if after[key] != before[key]} == told
    assert (name in ablations.PARTS) != (name in ablations.HYPERPARAMETERS)


def test_without_balance_both_sides_of_the_kl_move_alike_and_together_as_much_as_before():
    before, after = tiny(), configure(tiny(), "balance")
    assert after.beta_dyn == after.beta_rep == (before.beta_dyn + before.beta_rep) / 2 != before.beta_dyn


def test_an_unknown_part_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="memory, symlog, two-hot.*not memry; did you mean memory"):
        configure(tiny(), "memry")


# ------------------------------------------------------------------ memory

@pytest.mark.parametrize("name", [None, "memory"])
def test_without_memory_nothing_older_than_one_step_matters(name):
    made, rows, state = learner(), batch(), start(learner())
    if name:
        with remove(name, made):
            pass
    old = observed(made, rows, state)
    rows["obs"]["vector"][:, 1] += 5                    # the past, as seen from row 3
    rows["prev_action"][:, 2] = rows["prev_action"][:, 2].roll(1, -1)
    new = observed(made, rows, (state[0] + 1, state[1].roll(1, -1)))
    same = [torch.equal(a[:, 3], b[:, 3]) for a, b in zip(old, new)]
    assert same == [bool(name)] * 3
    assert not torch.equal(old[2][:, 1], new[2][:, 1])  # what is seen now always matters


def test_without_memory_the_posterior_sees_the_observation_alone_and_h_one_step_back():
    made, rows, state = learner(), batch(), start(learner())
    with remove("memory", made):
        pass
    old = observed(made, rows, state)
    rows["obs"]["vector"][:, 2] += 50
    new = observed(made, rows, state)
    assert torch.equal(old[2][:, 3], new[2][:, 3]) and not torch.equal(old[1][:, 2], new[1][:, 2])
    assert not torch.equal(old[0][:, 3], new[0][:, 3]) and torch.equal(old[0][:, 4], new[0][:, 4])
    rows["is_first"][:, 3] = True                       # at the beginning of an episode not even that
    first = observed(made, rows, state)[0][:, 3]
    assert torch.equal(first, first[:1].expand_as(first))


def test_without_memory_dreams_forget_as_well_and_acting_is_as_in_training():
    made, rows, state = learner(), batch(), start(learner())
    with remove("memory", made):
        pass
    rssm = made.agent.world_model.rssm
    action = rows["prev_action"][:, 0]
    dreamed, other = (rssm.imagine(deter, state[1], action, Mode()) for deter in (state[0], 7 * state[0]))
    assert torch.equal(dreamed[0], other[0])
    torch.testing.assert_close(dreamed[0], observed(made, rows, state)[0][:, 0])        # one model, awake or not
    deter = observed(made, rows, state)[0]
    for t in range(T):
        _, state = made.average.act({k: v[:, t] for k, v in rows["obs"].items()}, state, rows["prev_action"][:, t],
                                    rows["is_first"][:, t], Mode())
        torch.testing.assert_close(state[0], deter[:, t])


# ------------------------------------------------------------------ reward and value

def test_without_symlog_bins_are_evenly_spaced_and_still_mean_what_they_say():
    made = learner()
    with remove("symlog", made):
        for agent in (made.agent, made.average):
            for head in (agent.world_model.reward, agent.critic, agent.slow_critic):
                gaps = head.bins.diff()
                torch.testing.assert_close(gaps, torch.full_like(gaps, 2 * ablations.LIMIT / len(gaps)))
                index, weights = twohot_code(torch.tensor([0.37, -3.0]), head.bins)
                logits = torch.full((2, len(head.bins)), -1e9).scatter(-1, index, weights.log())
                torch.testing.assert_close(head.mean(logits), torch.tensor([0.37, -3.0]))
                assert torch.equal(head.mean(torch.zeros(len(head.bins))), torch.tensor(0.0))


def test_without_two_hot_one_number_is_fitted_by_its_square():
    made, target = learner(), torch.tensor([0.9, -4.0])
    with remove("two-hot", made):
        head = made.agent.world_model.reward
        logits = torch.randn(2, len(head.bins), generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(symlog(head.mean(logits)), logits[:, 0])
        torch.testing.assert_close(head.loss(logits, target), (logits[:, 0] - symlog(target)) ** 2)
        loss = actor_critic.critic_loss(logits, target, target + 1, None, 0.5)
        expected = (logits[:, 0] - symlog(target)) ** 2 + 0.5 * (logits[:, 0] - symlog(target + 1)) ** 2
        torch.testing.assert_close(loss, expected)
        made.agent.loss(batch(), start(made), Draw(torch.Generator().manual_seed(0)))[0].backward()
    for head in (made.agent.world_model.reward, made.agent.critic):
        used = head.out.weight.grad.abs().sum(-1) > 0
        assert used[0] and not used[1:].any()


@pytest.mark.parametrize("name, spread, scale", [
    (None, 0.2, 0.3), ("floor", 0.2, 0.2), ("normalisation", 0.2, 1.0),
    (None, 50.0, 50.0), ("floor", 50.0, 50.0), ("normalisation", 50.0, 1.0)])
def test_what_advantages_are_divided_by(name, spread, scale):
    norm = (made := learner(spread=spread)).agent.return_norm
    if name:
        with remove(name, made):
            pass
    returns = torch.linspace(0, spread, 1001) / 0.9         # its 5 to 95 percentiles are `spread` apart
    torch.testing.assert_close(norm.update(returns), torch.tensor(scale), rtol=0.01, atol=0)
    norm.update(returns + 100)
    assert norm.range[0] > 0.5                              # followed in every case, to look at
