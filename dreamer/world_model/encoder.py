"""Step 3: observation -> token, the embedding that the posterior sees (Eq. 1, "encoder").

Inside the package every observation is a dict with up to three entries:
  vector   float (..., V)                  all float keys, concatenated in alphabetical order
  symbols  int   (..., M)                  all discrete keys; each becomes a one-hot
  image    uint8 (..., 64, 64, channels)   all pictures, concatenated along their channels
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..distributions import symlog
from ..layers import RMSNorm, initial_weight, mlp

IMAGE_SIZE = 64             # pixels along each side of a picture
STAGES = (2, 3, 4, 4)       # channels of the four convolution stages, in units of `depth`


@dataclass(frozen=True)
class ObservationSpec:
    """What an observation holds: V floats, the class counts of M symbols, image channels."""
    vector: int = 0
    symbols: tuple = ()
    image: int = 0


class Conv(nn.Module):
    """5x5 convolution, stride 1, same size: (N, inputs, h, w) -> (N, outputs, h, w)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = initial_weight(outputs, inputs, 5, 5, fan_in=25 * inputs)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias, padding=2)


class ChannelNorm(RMSNorm):
    """RMSNorm over the channels of (N, channels, h, w)."""

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)                                            # (N, h, w, channels)
        return F.rms_norm(x, self.scale.shape, self.scale, self.epsilon).permute(0, 3, 1, 2)


class Standardize(nn.Module):
    """(x - mean) / std with statistics measured once, on the random steps before training.

    The paper's tasks have observations of order one. CartPole's angle stays within .2 rad: an error in
    it would cost next to nothing, and the state would not hold it. Never updated afterwards, so that
    what was learned from the numbers of before keeps its meaning.
    """

    def __init__(self, size):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    @torch.no_grad()
    def measure(self, x, bound):
        """Fix the statistics from rows x (N, V) and the largest values that the task declares, bound (V,).

        Random actions see little of what a good policy will: CartPole's cart moves .1 m, and the
        task declares 4.8. The bound widens the std to an eighth of itself, at most tenfold (0: none is declared), so what lies
        at it is 8, some 2 after symlog. The std of a number that never changed counts as .001 (1 + |mean|) before that.
        """
        self.mean.copy_(x.mean(0))
        std = x.std(0, correction=0).clamp(min=1e-3 * (1 + self.mean.abs()))
        self.std.copy_(torch.minimum(torch.maximum(std, bound / 8), 10 * std))

    def forward(self, x):
        return (x - self.mean) / self.std


class ImageEncoder(nn.Module):
    """uint8 (N, 64, 64, channels) -> (N, 4 * 4 * widths[-1]): conv, max pool, norm, SiLU for each stage.

    `widths`: channels after each stage, four of them in DreamerV3.
    """

    def __init__(self, channels, widths):
        super().__init__()
        self.convs = nn.ModuleList([Conv(i, o) for i, o in zip([channels, *widths], widths)])
        self.norms = nn.ModuleList([ChannelNorm(width) for width in widths])
        self.outputs = (IMAGE_SIZE >> len(widths)) ** 2 * widths[-1]

    def forward(self, image):
        x = image.permute(0, 3, 1, 2).float() / 255 - 0.5          # (N, channels, 64, 64)
        for conv, norm in zip(self.convs, self.norms):
            x = F.silu(norm(F.max_pool2d(conv(x), 2)))              # halves height and width
        return x.permute(0, 2, 3, 1).flatten(1)                     # (N, 4 * 4 * widths[-1])


def one_hots(symbols, classes):
    """M integers (..., M), the m-th of them below classes[m] -> their one-hots side by side, (..., sum(classes))."""
    ends = torch.tensor(classes, device=symbols.device).cumsum(0)
    starts = ends - torch.tensor(classes, device=symbols.device)                 # (M,) where each one-hot begins
    return torch.zeros(*symbols.shape[:-1], sum(classes), device=symbols.device).scatter_(-1, symbols + starts, 1.0)


class Encoder(nn.Module):
    """Observation dict -> token (..., E). Floats are symlogged, symbols are one-hot, Eq. 9."""

    def __init__(self, spec, units, depth, layers=3):
        super().__init__()
        self.spec = spec
        flat = spec.vector + sum(spec.symbols)
        self.mlp = mlp(flat, units, layers) if flat else None
        self.image = ImageEncoder(spec.image, [depth * k for k in STAGES]) if spec.image else None
        self.outputs = (units if flat else 0) + (self.image.outputs if spec.image else 0)

    def forward(self, obs):
        """`obs` as in the head of this file, `vector` already standardised -> (..., E)."""
        flat, tokens = [], []
        if self.spec.vector:
            flat.append(symlog(obs["vector"]))                                   # (..., V)
        if self.spec.symbols:
            flat.append(one_hots(obs["symbols"].long(), self.spec.symbols))      # (..., sum of classes)
        if flat:
            tokens.append(self.mlp(torch.cat(flat, -1)))                         # (..., U)
        if self.image:
            image = obs["image"]                                                 # (..., 64, 64, channels)
            tokens.append(self.image(image.flatten(0, -4)).unflatten(0, image.shape[:-3]))
        return torch.cat(tokens, -1)
