"""Step 5: state -> predicted observation. Its loss is what gives the latents their meaning (Eq. 3)."""

import torch
import torch.nn.functional as F
from torch import nn

from ..distributions import symlog
from ..layers import BlockLinear, Layer, Linear, mlp
from .encoder import IMAGE_SIZE, STAGES, ChannelNorm, Conv


# A doubled row a b c is a a b b c c. Five weights (taps) around the first b (even) meet a a b b c, around the second (odd) a b b c c:
TAPS = torch.tensor([[[1., 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]],
                     [[1., 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]])     # (even or odd, pixel of a b c, tap)


class DoublingConv(Conv):
    """Each pixel repeated to 2 x 2, then a 5x5 convolution: (N, inputs, h, w) -> (N, outputs, 2h, 2w).

    Taps that meet copies of the same pixel are added up first: 9 products a pixel in place of 25, the same result.
    """

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.register_buffer("taps", TAPS, persistent=False)

    def forward(self, x):
        # y, x: even or odd row, column; a, b: which of three pixels; k, l: tap; o, i: output, input
        kernels = torch.einsum("yak,xbl,oikl->oyxiab", self.taps, self.taps, self.weight)   # (outputs, 2, 2, inputs, 3, 3)
        x = F.conv2d(x, kernels.flatten(0, 2), self.bias.repeat_interleave(4), padding=1)   # (N, outputs * 2 * 2, h, w)
        return F.pixel_shuffle(x, 2)                                                        # (N, outputs, 2h, 2w)


class ImageDecoder(nn.Module):
    """deter (N, D), stoch (N, S*C) -> picture (N, 64, 64, channels) in [0, 1]. The encoder, mirrored.

    `widths`: channels of the encoder's stages, used here from the last to the first.
    """

    def __init__(self, channels, widths, deter, stoch, units, blocks):
        super().__init__()
        widths = list(reversed(widths))
        self.width, self.side = widths[0], IMAGE_SIZE >> len(widths)     # smallest feature map
        pixels = self.side ** 2
        self.space_deter = BlockLinear(deter, pixels * self.width, blocks)
        self.space_stoch = nn.Sequential(Layer(stoch, 2 * units), Linear(2 * units, pixels * self.width))
        self.space_norm = ChannelNorm(self.width)
        self.convs = nn.ModuleList([DoublingConv(i, o) for i, o in zip(widths, widths[1:])])
        self.norms = nn.ModuleList([ChannelNorm(o) for o in widths[1:]])
        self.out = DoublingConv(widths[-1], channels)

    def forward(self, deter, stoch):
        # Every block of the deterministic part paints its own group of channels.
        x = self.space_deter(deter).unflatten(-1, (self.side ** 2, -1))             # (g, N, 16, c/g), c: width
        x = x.permute(1, 2, 0, 3).flatten(2)                                        # (N, 16, c)
        x = x + self.space_stoch(stoch).unflatten(-1, (-1, self.width))             # (N, 16, c)
        x = x.unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2)              # (N, c, 4, 4)
        x = F.silu(self.space_norm(x))
        for conv, norm in zip(self.convs, self.norms):
            x = F.silu(norm(conv(x)))                                               # doubles height and width
        return self.out(x).sigmoid().permute(0, 2, 3, 1)


def side_by_side(flat, classes):
    """Logits of M symbols in one row (..., sum(classes)) -> a row each (..., M, max(classes)), filled with -inf."""
    most = max(classes)
    taken = torch.arange(most, device=flat.device) < torch.tensor(classes, device=flat.device).unsqueeze(-1)
    return flat.new_full((*flat.shape[:-1], len(classes), most), -torch.inf).masked_scatter(taken, flat)


class Decoder(nn.Module):
    def __init__(self, spec, deter, stoch, units, depth, blocks, layers=3):
        super().__init__()
        self.spec = spec
        flat = spec.vector + sum(spec.symbols)
        self.mlp = mlp(stoch + deter, units, layers) if flat else None
        self.out = Linear(units, flat) if flat else None
        widths = [depth * k for k in STAGES]
        self.image = ImageDecoder(spec.image, widths, deter, stoch, units, blocks) if spec.image else None

    def forward(self, deter, stoch):
        """deter (..., D), stoch (..., S, C) -> dict of predictions.

        vector (..., V): symlog of the standardised observation; symbols: logits (..., M, most classes),
        -inf beyond a symbol's own; image (..., 64, 64, channels) in [0, 1]. The MLP reads stoch before deter.
        """
        stoch, lead, output = stoch.flatten(-2), deter.shape[:-1], {}
        if self.mlp:
            flat = self.out(self.mlp(torch.cat([stoch, deter], -1)))
            if self.spec.vector:
                output["vector"] = flat[..., :self.spec.vector]
            if self.spec.symbols:
                output["symbols"] = side_by_side(flat[..., self.spec.vector:], self.spec.symbols)
        if self.image:
            picture = self.image(deter.flatten(0, -2), stoch.flatten(0, -2))
            output["image"] = picture.unflatten(0, lead)
        return output

    def loss(self, output, obs):
        """Eq. 3, first line, per step: *sums* over the numbers of an observation -> (...).

        Squared error of symlogs without the 1/2 (official code), cross-entropy for symbols,
        squared error of pixels in [0, 1]. A mean instead of the sum would let the KL win.
        """
        loss = 0
        if self.spec.vector:
            loss = loss + ((output["vector"] - symlog(obs["vector"])) ** 2).sum(-1)
        if self.spec.symbols:
            logits, truth = output["symbols"], obs["symbols"].long().unsqueeze(-1)               # (..., M, 1)
            total = logits.movedim(-1, 0).logsumexp(0)          # (..., M); twice as fast as along the last axis
            loss = loss + (total - logits.gather(-1, truth).squeeze(-1)).sum(-1)
        if self.spec.image:
            loss = loss + ((output["image"] - obs["image"].float() / 255) ** 2).sum((-3, -2, -1))
        return loss
