"""Step 2: the few layers everything is built from. Every hidden layer is Linear -> RMSNorm -> SiLU."""

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-4      # inside the root of every RMSNorm, as in the official code


def initial_weight(*shape, fan_in, scale=1.0):
    """Normal truncated at two deviations with variance scale^2 / fan_in, as an nn.Parameter.

    1.1368 undoes the loss of variance that the truncation costs. Source: `nets.Initializer`.
    """
    weight = nn.init.trunc_normal_(torch.empty(shape), std=1.0, a=-2.0, b=2.0)
    return nn.Parameter(weight * (1.1368 * scale * fan_in ** -0.5))


class Linear(nn.Module):
    """(..., inputs) -> (..., outputs), bias zero. `scale=0` makes a head that starts at exactly 0."""

    def __init__(self, inputs, outputs, scale=1.0):
        super().__init__()
        self.weight = initial_weight(outputs, inputs, fan_in=inputs, scale=scale)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class BlockLinear(nn.Module):
    """A Linear whose matrix is block-diagonal: g pieces that do not see each other.

    The piece weights are (g, inputs/g, outputs/g), but fan_in counts *all* inputs: the official
    code does so, and starts these layers sqrt(g) times smaller than a dense layer of one piece.
    """

    def __init__(self, inputs, outputs, blocks):
        super().__init__()
        self.blocks = blocks
        self.weight = initial_weight(blocks, inputs // blocks, outputs // blocks, fan_in=inputs)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        """(N, inputs) -> (g, N, outputs/g): block-major, the layout the matrix product gives."""
        return torch.baddbmm(self.bias.view(self.blocks, 1, -1), split_blocks(x, self.blocks), self.weight)


def fast_tanh(x):
    """tanh by way of the logistic function: on a CPU torch computes that four times faster."""
    return 2 * torch.sigmoid(2 * x) - 1


def split_blocks(x, blocks):
    """(N, g * width) -> (g, N, width): block-major, the layout of the matrix product of a BlockLinear."""
    return x.unflatten(-1, (blocks, -1)).transpose(0, 1)


def join_blocks(x):
    """(g, N, width) -> (N, g * width): put the pieces of a block-major tensor side by side."""
    return x.transpose(0, 1).flatten(1)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * scale over the last axis: no mean subtraction, no offset."""

    def __init__(self, units, epsilon=EPSILON):
        super().__init__()
        self.epsilon = epsilon
        self.scale = nn.Parameter(torch.ones(units))

    def forward(self, x):
        return F.rms_norm(x, self.scale.shape, self.scale, self.epsilon)

    def unit(self, x):
        """The norm without its scale: what several norms side by side have in common."""
        return F.rms_norm(x, self.scale.shape, None, self.epsilon)


class Layer(nn.Module):
    """Linear -> RMSNorm -> SiLU: (..., inputs) -> (..., outputs)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = Linear(inputs, outputs)
        self.norm = RMSNorm(outputs)

    def forward(self, x):
        return F.silu(self.norm(self.linear(x)))


def mlp(inputs, units, layers):
    """`layers` hidden layers of `units` each: (..., inputs) -> (..., units)."""
    return nn.Sequential(*[Layer(units if i else inputs, units) for i in range(layers)])
