"""The matrix products of one update, and nothing else: the floor that a CPU sets to its time.

At the official 1m recipe with 4 observed numbers and 2 actions they come to 28.6 GFLOP (29.0 if actor
and critic are also trained on the last state of each dream, where nothing is decided). Per
state, in millions of multiply-adds, forward; a product that is trained costs as much again for
the gradient of its weight, and again for that of its input where that is not data:

    recurrent core      .267    each step of the scan (trained), each step of a dream
    posterior, prior    .089    with the encoder (.017 for both), each replayed state, trained
    decoder             .049    each replayed state, trained
    reward, continue    .098    each replayed state, trained; each dreamed state
    critic              .065    each replayed state, trained; each dreamed state, trained
    slow critic         .065    each replayed and each dreamed state
    actor               .049    twice in each dreamed state: to act, and to be trained

Every product is run as the eager code does it: out of place, with the same layouts.
"""

from collections import Counter
from typing import NamedTuple

import torch

from dreamer.config import SIZES


class Product(NamedTuple):
    """`blocks` times (M, K) @ (K, N). kind: how the operands lie in memory, see `operands`."""
    kind: str
    blocks: int
    m: int
    k: int
    n: int

    @property
    def flop(self):
        return 2 * self.blocks * self.m * self.k * self.n


class Recipe(NamedTuple):
    """What the shapes of an update depend on."""
    config: object
    vector: int = 4
    actions: int = 2


def layer(rows, inputs, outputs, times=1, train=True, data=False, blocks=1):
    """Products of one linear layer on `rows` rows, `times` times: Counter of Product.

    train: with both gradients; data: the input needs none.
    """
    found = Counter({Product("forward", blocks, rows, inputs, outputs): times})
    if train and not data:
        found[Product("input", blocks, rows, outputs, inputs)] += times
    if train:
        found[Product("weight", blocks, inputs, rows, outputs)] += times
    return found


def mlp(rows, inputs, units, layers, outputs, **options):
    """Products of `layers` hidden layers and one output layer."""
    found, later = layer(rows, inputs, units, **options), {**options, "data": False}
    for width in [units] * (layers - 1) + [outputs]:
        found += layer(rows, units, width, **later)
    return found


def core(rows, recipe, times, **options):
    """The recurrent step: three inputs, the block layer in its two parts, the gates."""
    deter, units, flat, blocks = sizes(recipe)
    width = deter // blocks
    found = layer(rows, deter, units, times, **options) + layer(rows, flat, units, times, **options)
    found += layer(rows, width, width, times, blocks=blocks, **options)
    found += layer(rows, 3 * units, deter, times, **options)
    return found + layer(rows, width, 3 * width, times, blocks=blocks, **options)


def sizes(recipe):
    size = SIZES[recipe.config.size]
    return size.deter, size.hidden, recipe.config.stoch * size.classes, recipe.config.blocks


def world_model(recipe):
    """Everything on replayed states, the critic's share included."""
    config, (deter, units, flat, _) = recipe.config, sizes(recipe)
    batch, steps, feature = config.batch_size, config.batch_length, deter + flat
    rows = batch * steps
    found = mlp(rows, recipe.vector, units, 2, units, data=True)                        # encoder
    found += layer(rows, recipe.actions, units, data=True) + core(batch, recipe, steps)
    found += layer(rows, units, units)                                                  # posterior: token,
    found += layer(batch, deter, units, steps) + layer(batch, units, flat, steps)
    found += mlp(rows, deter, units, 2, flat)                                           # prior
    found += mlp(rows, feature, units, 3, recipe.vector)                                # decoder
    found += mlp(rows, feature, units, 1, config.bins) + mlp(rows, feature, units, 1, 1)
    found += mlp(rows, feature, units, 3, config.bins)                                  # critic
    return found + mlp(rows, feature, units, 3, config.bins, train=False)               # slow critic


def behaviour(recipe):
    """Everything on dreamed states."""
    config, (deter, units, flat, _) = recipe.config, sizes(recipe)
    starts = config.starts or config.batch_size * config.batch_length
    horizon, feature, still = config.imagination_horizon, deter + flat, {"train": False}
    found = core(starts, recipe, horizon, **still) + layer(starts, recipe.actions, units, horizon, **still)
    found += mlp(starts, deter, units, 2, flat, times=horizon, **still)                 # prior
    found += mlp(starts, feature, units, 3, recipe.actions, times=horizon + 1, **still)     # to act
    pieces = starts * (horizon + 1) / 1024                  # `Agent.judge` takes a thousand states at a time
    rows, times = (1024, int(pieces)) if pieces == int(pieces) else (starts, horizon + 1)
    for layers, outputs in ((1, config.bins), (1, 1), (3, config.bins)):                # reward, continue, slow
        found += mlp(rows, feature, units, layers, outputs, times=times, **still)
    found += mlp(starts, feature, units, 3, config.bins, **still)                       # value at the end
    for outputs in (config.bins, recipe.actions):                                       # critic and actor
        found += mlp(starts * horizon, feature, units, 3, outputs, data=True)
    return found


def count(recipe):
    """All products of one update: Counter of Product."""
    return world_model(recipe) + behaviour(recipe)


def gigaflop(products):
    return sum(product.flop * times for product, times in products.items()) / 1e9


def operands(product):
    """Two matrices as `product` finds them: weights (outputs, inputs), gradients transposed."""
    kind, blocks, m, k, n = product
    lead = (blocks,) if blocks > 1 else ()
    left = torch.randn(*lead, k, m).mT if kind == "weight" else torch.randn(*lead, m, k)
    right = torch.randn(*lead, n, k).mT if kind == "forward" and not lead else torch.randn(*lead, k, n)
    return left, right, torch.zeros(n)


def floor(products):
    """A function that runs all products once, each from fixed operands and into fresh memory."""
    ready = [(product.kind == "forward" and product.blocks == 1, *operands(product), times)
             for product, times in products.items()]

    def run():
        for biased, left, right, bias, times in ready:
            for _ in range(times):
                torch.addmm(bias, left, right) if biased else left @ right
    return run
