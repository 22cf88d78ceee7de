"""Modules of `dreamer` as large as a fixture's weights, with those weights in them.

The fixtures name a weight after its place (`dyn_core_in_deter_kernel`) and keep it as
[inputs, outputs] or, for a convolution, [height, width, inputs, outputs].
"""

from dataclasses import replace

import torch
from torch import nn

from dreamer.agent import Agent
from dreamer.behavior.imagination import Actor
from dreamer.behavior.returns import ReturnNorm
from dreamer.config import OFFICIAL, Config
from dreamer.layers import BlockLinear, Layer, Linear, RMSNorm, mlp
from dreamer.world_model.decoder import Decoder, ImageDecoder
from dreamer.world_model.encoder import Conv, Encoder, ImageEncoder, ObservationSpec
from dreamer.world_model.model import TwoHotHead
from dreamer.world_model.rssm import RSSM

# ------------------------------------------------------------------ names

def tensors(name, module, pick):
    """{fixture's name: tensor in the fixture's layout} of all parameters below `module`.

    `pick` chooses what of a parameter: its value or its gradient. All tensors are views.
    """
    if isinstance(module, Layer):
        return tensors(name, module.linear, pick) | tensors(name, module.norm, pick)
    if isinstance(module, (nn.Sequential, nn.ModuleList)):
        numbered = [tensors(f"{name}{i}", child, pick) for i, child in enumerate(module)]
        return {key: value for part in numbered for key, value in part.items()}
    if isinstance(module, RMSNorm):
        return {f"{name}_norm_scale": pick(module.scale)}
    kernel = pick(module.weight)
    if isinstance(module, Linear):
        kernel = kernel.T                               # from (outputs, inputs)
    elif isinstance(module, Conv):
        kernel = kernel.permute(2, 3, 1, 0)             # from (outputs, inputs, height, width)
    elif not isinstance(module, BlockLinear):
        raise TypeError(f"no layout known for {type(module).__name__}")
    return {f"{name}_kernel": kernel, f"{name}_bias": pick(module.bias)}


def encoder_parts(encoder):
    pairs = [("enc_mlp", encoder.mlp)] if encoder.mlp else []
    if encoder.image:
        pairs += [("enc_conv", encoder.image.convs), ("enc_conv", encoder.image.norms)]
    return pairs


def rssm_parts(rssm):
    return [("dyn_core_in_deter", rssm.in_deter), ("dyn_core_in_stoch", rssm.in_stoch),
            ("dyn_core_in_action", rssm.in_action), ("dyn_core_hidden", rssm.hidden),
            ("dyn_core_hidden", rssm.norm), ("dyn_core_gates", rssm.gates),
            ("dyn_prior_hidden", rssm.prior_hidden), ("dyn_prior_logit", rssm.prior_logits),
            ("dyn_post_hidden0", rssm.post_hidden), ("dyn_post_logit", rssm.post_logits)]


def decoder_parts(decoder):
    pairs = [("dec_mlp", decoder.mlp), ("dec_vector_out", decoder.out)] if decoder.mlp else []
    if decoder.image:
        image = decoder.image
        pairs += [("dec_space_deter", image.space_deter), ("dec_space_stoch", image.space_stoch),
                  ("dec_space", image.space_norm), ("dec_conv", image.convs),
                  ("dec_conv", image.norms), ("dec_image_out", image.out)]
    return pairs


def world_model_parts(model):
    return [*encoder_parts(model.encoder), *rssm_parts(model.rssm), *decoder_parts(model.decoder),
            ("rew_mlp", model.reward.mlp), ("rew_out", model.reward.out),
            ("con_mlp", model.continues[0]), ("con_out", model.continues[1])]


def agent_parts(agent):
    heads = {"pol": agent.actor, "val": agent.critic, "slowval": agent.slow_critic}
    return world_model_parts(agent.world_model) + [
        (f"{name}_{part}", getattr(head, part)) for name, head in heads.items() for part in ("mlp", "out")]


def table(parts, pick):
    """`tensors` of several (name, module) pairs together."""
    return {key: value for name, module in parts for key, value in tensors(name, module, pick).items()}


def gradient(parameter):
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def load(fixture, parts):
    """Copy every `param_` array of the fixture into its place, and fail if one has no place."""
    places = table(parts, lambda parameter: parameter.detach())
    given = {name[len("param_"):] for name in fixture.arrays if name.startswith("param_")}
    if given != set(places):
        raise ValueError(f"weights without a counterpart: {sorted(given ^ set(places))}")
    for name, place in places.items():
        if place.shape != fixture.shape(f"param_{name}"):
            raise ValueError(f"param_{name} is {fixture.shape(f'param_{name}')}, ours {tuple(place.shape)}")
        place.copy_(fixture[f"param_{name}"])
    for _, module in parts:
        for norm in module.modules():
            if isinstance(norm, RMSNorm):
                norm.epsilon = fixture.number("in_cfg_norm_eps", norm.epsilon)

# ------------------------------------------------------------------ sizes

def build_rssm(fixture):
    kernel = lambda name: fixture.shape(f"param_dyn_{name}_kernel")
    deter, hidden = kernel("core_in_deter")
    stoch = fixture.shape("in_stoch" if "in_stoch" in fixture else "in_initial_stoch")[-2:]
    rssm = RSSM(kernel("core_in_action")[0], kernel("post_hidden0")[0] - deter, deter, hidden, *stoch,
                kernel("core_hidden")[0], fixture.number("in_cfg_unimix"))
    rssm.prior_hidden = mlp(deter, hidden, fixture.layers("dyn_prior_hidden"))
    return rssm


def build_vector_nets(fixture, deter, stoch):
    """Encoder and decoder of V numbers; stoch: S*C."""
    numbers, units = fixture.shape("param_enc_mlp0_kernel")
    spec = ObservationSpec(vector=numbers)
    encoder = Encoder(spec, units, 1, fixture.layers("enc_mlp"))
    units = fixture.shape("param_dec_mlp0_kernel")[1]
    return encoder, Decoder(spec, deter, stoch, units, 1, 1, fixture.layers("dec_mlp"))


def build_image_nets(fixture, deter, stoch):
    """Encoder and decoder of pictures, whatever the channels of their stages; stoch: S*C."""
    widths = [fixture.shape(f"param_enc_conv{i}_bias")[0] for i in range(fixture.layers("enc_conv"))]
    units = fixture.shape("param_dec_space_stoch1_kernel")[0] // 2
    blocks, channels = fixture.shape("param_dec_space_deter_kernel")[0], fixture.shape("in_image")[-1]
    spec = ObservationSpec(image=channels)
    encoder, decoder = Encoder(spec, units, 1), Decoder(spec, deter, stoch, units, 1, 1)
    encoder.image = ImageEncoder(channels, widths)
    decoder.image = ImageDecoder(channels, widths, deter, stoch, units, blocks)
    return encoder, decoder


def build_head(fixture, name):
    """A two-hot head with as many layers and bins as the fixture's."""
    inputs, units = fixture.shape(f"param_{name}_mlp0_kernel")
    return TwoHotHead(inputs, units, fixture.layers(f"{name}_mlp"), fixture.shape(f"param_{name}_out_bias")[0])


def build_config(fixture):
    names = dict(unimix="unimix", free_nats="free_nats", discount_horizon="horizon",
                 imagination_horizon="imag_length", lam="lam", entropy="actent", slow_regulariser="slowreg")
    given = {ours: fixture.number(f"in_cfg_{theirs}") for ours, theirs in names.items()
             if f"in_cfg_{theirs}" in fixture}
    return replace(Config(), **(OFFICIAL | given))


def build_agent(fixture):
    """An agent for V numbers and discrete actions, with every part exchanged for one of the
    fixture's size; actor and critics only where the fixture has weights for them."""
    actions = fixture.shape("param_dyn_core_in_action_kernel")[0]
    spec = ObservationSpec(vector=fixture.shape("in_vector")[-1])
    agent, rssm = Agent(spec, actions, True, build_config(fixture)), build_rssm(fixture)
    model, agent.world_model.rssm = agent.world_model, rssm
    model.encoder, model.decoder = build_vector_nets(fixture, rssm.deter, rssm.stoch * rssm.classes)
    model.reward = build_head(fixture, "rew")
    inputs, units = fixture.shape("param_con_mlp0_kernel")
    model.continues = nn.Sequential(mlp(inputs, units, fixture.layers("con_mlp")), Linear(units, 1))
    if "param_pol_out_kernel" in fixture:
        inputs, units = fixture.shape("param_pol_mlp0_kernel")
        agent.actor = Actor(inputs, actions, True, units, 0, fixture.layers("pol_mlp"))
        agent.critic, agent.slow_critic = build_head(fixture, "val"), build_head(fixture, "slowval")
        agent.slow_critic.requires_grad_(False)
        agent.return_norm = build_return_norm(fixture)
    prefix = "in_cfg_scale_"
    agent.scales.update({n[len(prefix):]: fixture.number(n) for n in fixture.arrays if n.startswith(prefix)})
    return agent


def build_return_norm(fixture, prefix="in_cfg_retnorm_", before="in_retnorm"):
    """The moving percentiles, as they stood before the recorded call."""
    norm = ReturnNorm(fixture.number(f"{prefix}rate"), fixture.number(f"{prefix}limit"),
                      fixture.number("in_cfg_perclo"), fixture.number("in_cfg_perchi"))
    for i, end in enumerate(("low", "high")):
        norm.range[i] = fixture.number(f"{before}_{end}_before", 0.0)
    return norm
