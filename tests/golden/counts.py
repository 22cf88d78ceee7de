"""Check of param_counts.json: agents of the official sizes have exactly the official parameters."""

import json
import re
from dataclasses import replace

import torch
from modules import agent_parts, table

from dreamer.agent import Agent
from dreamer.config import Config
from dreamer.world_model.encoder import IMAGE_SIZE, ObservationSpec


def build(name):
    """Agent for a configuration `<size>_<observation>_<action>`, such as size1m_vector4_discrete2."""
    size, *rest = name.split("_")
    parts = {kind: int(count) for kind, count in (re.fullmatch(r"([a-z]+)(\d+)", part).groups() for part in rest)}
    if parts.keys() - {"vector", "image", "discrete", "continuous"} or parts.get("image") not in (None, IMAGE_SIZE):
        raise ValueError(f"cannot build {name}")
    spec = ObservationSpec(vector=parts.get("vector", 0), image=3 if "image" in parts else 0)
    config = replace(Config(), size=size.removeprefix("size"))
    with torch.device("meta"):          # shapes without memory: even the largest size takes no time
        return Agent(spec, parts.get("discrete") or parts["continuous"], "discrete" in parts, config)


def count(module):
    return sum(p.numel() for p in module.parameters())


def measure(agent):
    """Parameters of each module, of all that is trained, and of the slow critic."""
    model = agent.world_model
    modules = dict(encoder=model.encoder, rssm=model.rssm, decoder=model.decoder, reward_head=model.reward,
                   continue_head=model.continues, policy_head=agent.actor, value_head=agent.critic)
    return {"modules": {name: count(module) for name, module in modules.items()},
            "trained_total": sum(p.numel() for p in agent.trained()), "slow_value_copy": count(agent.slow_critic)}


def shapes(agent):
    """Shape of every trained tensor, by the fixtures' names. Ours joins the outputs for mean and
    std of a continuous policy in one matrix, the recording has two."""
    found = {name: list(x.shape) for name, x in table(agent_parts(agent), lambda p: p).items()
             if not name.startswith("slowval")}
    kernel, bias = found.pop("pol_out_kernel"), found.pop("pol_out_bias")
    halves = ("logits",) if agent.actor.discrete else ("mean", "std")
    for half in halves:
        found[f"pol_out_{half}_kernel"] = [kernel[0], kernel[1] // len(halves)]
        found[f"pol_out_{half}_bias"] = [bias[0] // len(halves)]
    return found


def check_counts(path):
    """(ok, verdict) for every configuration of the file together."""
    wrong, recorded = [], json.loads(path.read_text())
    for name, truth in recorded.items():
        agent = build(name)
        ours = measure(agent) | {"tensor_shapes": shapes(agent)}
        wrong += [f"{name} {key}: {ours.get(key)} instead of {truth[key]}" for key in truth if ours.get(key) != truth[key]]
    return bool(recorded) and not wrong, "; ".join(wrong) or f"{len(recorded)} configurations, exactly equal"
