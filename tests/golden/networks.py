"""Checks of the fixtures with weights: the world model's parts, the world model, the whole agent."""

import torch
import torch.nn.functional as F
from modules import (agent_parts, build_agent, build_image_nets, build_rssm, build_vector_nets, decoder_parts,
                     encoder_parts, gradient, load, rssm_parts, table, world_model_parts)

from dreamer.behavior.imagination import imagine
from dreamer.distributions import Mode
from dreamer.world_model.rssm import features


def check_rssm(fixture):
    rssm = build_rssm(fixture)
    load(fixture, rssm_parts(rssm))
    actions = fixture.shape("param_dyn_core_in_action_kernel")[0]
    check_step(fixture, rssm, "continuous", fixture["in_action_continuous"])
    check_step(fixture, rssm, "discrete", F.one_hot(fixture["in_action_discrete"], actions).float())
    state = fixture["in_seq_initial_deter"], fixture["in_seq_initial_stoch"]
    deter, stoch, post = rssm.observe(
        fixture["in_seq_tokens"], fixture["in_seq_prev_action"], fixture["in_seq_is_first"].bool(), state, Mode())
    for name, ours in dict(deter=deter, stoch=stoch, post_logits=post, prior_logits=rssm.prior(deter)).items():
        fixture.compare(f"out_seq_{name}", ours)
    check_dream(fixture, rssm, deter[:, -1], stoch[:, -1])


def check_step(fixture, rssm, kind, action):
    """One step without reset, as a sequence of length 1."""
    tokens, action = fixture["in_tokens"].unsqueeze(1), action.unsqueeze(1)
    is_first = torch.zeros(action.shape[:2], dtype=torch.bool)
    state = fixture["in_deter"], fixture["in_stoch"]
    deter, _, post = (x[:, 0] for x in rssm.observe(tokens, action, is_first, state, Mode()))
    for name, ours in dict(deter=deter, prior_logits=rssm.prior(deter), post_logits=post).items():
        fixture.compare(f"out_{kind}_{name}", ours)


def check_dream(fixture, rssm, deter, stoch):
    """Steps without observations, from the last state of the sequence."""
    dream = []
    for action in fixture["in_imagine_action"].unbind(1):
        deter, stoch = rssm.imagine(deter, stoch, action, Mode())
        dream.append((deter, stoch, rssm.prior(deter)))
    for name, ours in zip(("deter", "stoch", "prior_logits"), zip(*dream)):
        fixture.compare(f"out_imagine_{name}", torch.stack(ours, 1))


def check_vector(fixture):
    check_nets(fixture, build_vector_nets, "vector", "recon_symlog")


def check_image(fixture):
    check_nets(fixture, build_image_nets, "image", "recon")


def check_nets(fixture, build, kind, prediction):
    """Encoder and decoder of one kind of observation, and the loss between them."""
    deter, stoch = fixture["in_deter"], fixture["in_stoch"]
    encoder, decoder = build(fixture, deter.shape[-1], stoch.shape[-2] * stoch.shape[-1])
    load(fixture, encoder_parts(encoder) + decoder_parts(decoder))
    obs, output = {kind: fixture[f"in_{kind}"]}, decoder(deter, stoch)
    fixture.compare("out_tokens", encoder(obs))
    fixture.compare(f"out_{prediction}", output[kind])
    fixture.compare("out_loss", decoder.loss(output, obs))


def read_batch(fixture):
    """The batch of an update and the state before it."""
    actions = fixture.shape("param_dyn_core_in_action_kernel")[0]
    batch = {name: fixture[f"in_{name}"].bool() for name in ("is_first", "is_last", "is_terminal")}
    batch["reward"] = fixture["in_reward"]
    batch["obs"] = {"vector": fixture["in_vector"]}
    batch["prev_action"] = F.one_hot(fixture["in_prev_action"], actions).float()
    return batch, (fixture["in_initial_deter"], fixture["in_initial_stoch"])


def check_world_model(fixture):
    """Losses and, where the fixture has them, gradients of the world model."""
    agent = build_agent(fixture)
    parts = world_model_parts(agent.world_model)
    load(fixture, parts)
    losses, model = agent.world_model.loss(*read_batch(fixture), Mode())
    total = agent.total(losses)
    total.backward()
    names = dict(tokens="tokens", deter="deter", stoch="stoch", post_logits="post", prior_logits="prior",
                 reward_logits="reward", continue_logit="continues", kl_unclipped="kl")
    results = {theirs: model[ours] for theirs, ours in names.items()} | {"loss_total": total}
    results |= {f"loss_{name}": loss for name, loss in losses.items()}
    compare_present(fixture, results)
    compare_gradients(fixture, parts)


def check_agent(fixture):
    """The loss of everything, its gradients, and the dream inside it."""
    agent = build_agent(fixture)
    parts = agent_parts(agent)
    load(fixture, parts)
    batch, state = read_batch(fixture)
    shape = batch["reward"].shape                                               # (B, T)
    total, losses, _, model = agent.loss(batch, state, Mode(), predict_first=True)
    total.backward()
    for name in ("policy", "value"):                                            # (H, B*T)
        losses[name] = losses[name].mean(0).unflatten(0, shape)
    losses["repval"] = losses["repval"].T                                       # (T-1, B)
    results = {f"loss_{name}": loss for name, loss in losses.items()} | dream_again(agent, model)
    low, high = agent.return_norm.range
    results |= dict(loss_total=total, post_logits=model["post"], retnorm_low_after=low, retnorm_high_after=high)
    compare_present(fixture, results)
    compare_gradients(fixture, parts)


@torch.no_grad()
def dream_again(agent, model):
    """The imagined states and actions, batch first. With `Mode` a dream always takes the same way."""
    rssm = agent.world_model.rssm
    start = (model[name].detach().flatten(0, 1) for name in ("deter", "stoch"))
    feature, action = imagine(rssm, agent.actor, *start, agent.config.imagination_horizon, Mode())
    feature = feature.transpose(0, 1)                                           # (N, H+1, D + S*C)
    deter, stoch = feature.split([rssm.deter, rssm.stoch * rssm.classes], -1)
    return dict(
        imagined_deter=deter, imagined_stoch=stoch.unflatten(-1, (rssm.stoch, rssm.classes)),
        imagined_action=action.argmax(-1).T, imagined_policy_logits=agent.actor.out(agent.actor.mlp(feature)))


def compare_present(fixture, results):
    """Compare all results that this kind of fixture recorded; the fixture reports those it misses."""
    for name, ours in results.items():
        if f"out_{name}" in fixture:
            fixture.compare(f"out_{name}", ours)


def compare_gradients(fixture, parts):
    for name, grad in table(parts, gradient).items():
        if f"out_grad_{name}" in fixture:
            fixture.compare_gradient(f"out_grad_{name}", grad)
