"""Step 4: the recurrent state-space model, the memory and the imagination of the agent (Eq. 1).

    sequence model   h_t = f(h_{t-1}, z_{t-1}, a_{t-1})
    posterior        z_t ~ q(z_t | h_t, x_t)      while there is an observation x_t to look at
    prior            z_t ~ p(z_t | h_t)           while dreaming

The state is h ("deter", D numbers) and z ("stoch", S one-hot latents of C classes). Both start
every episode as zeros. Note the indices: the action *leading to* step t goes in, never a_t.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..distributions import straight_through, unimix
from ..layers import BlockLinear, Layer, Linear, RMSNorm, fast_tanh, join_blocks, mlp, split_blocks


class RSSM(nn.Module):
    """Sequence model, prior and posterior (Eq. 1) over deter (N, D) and stoch, S latents of C classes, one-hot: (N, S, C).

    tokens: E, length of what the encoder says; hidden: U. As in the official code h, z and a pass a layer with norm and
    SiLU each, and one more block layer, where the paper speaks of a linear embedding. Source: `dreamerv3/rssm.py`.
    """

    def __init__(self, actions, tokens, deter, hidden, stoch, classes, blocks, mix):
        super().__init__()
        self.deter, self.stoch, self.classes, self.blocks, self.mix = deter, stoch, classes, blocks, mix
        flat = stoch * classes
        self.in_deter = Layer(deter, hidden)
        self.in_stoch = Layer(flat, hidden)
        self.in_action = Layer(actions, hidden)
        self.hidden = BlockLinear(deter + 3 * hidden * blocks, deter, blocks)
        self.norm = RMSNorm(deter)
        self.gates = BlockLinear(deter, 3 * deter, blocks)
        self.prior_hidden = mlp(deter, hidden, 2)
        self.prior_logits = Linear(hidden, flat)
        self.post_hidden = Layer(deter + tokens, hidden)
        self.post_logits = Linear(hidden, flat)

    def initial(self, batch):
        """Zero state for `batch` rows: deter (B, D), stoch (B, S, C)."""
        zeros = self.norm.scale.new_zeros
        return zeros(batch, self.deter), zeros(batch, self.stoch, self.classes)

    def embed_action(self, action):
        """(..., A) -> (..., U), not normed yet. Actions beyond [-1, 1] are scaled back to its edge."""
        return self.in_action.linear(action / action.detach().abs().clamp(min=1))

    def prepare(self):
        """What every step of `core` needs of the weights, made once for a whole sequence.

        The block layer reads concat(deter_k, x) in every block k, with the *same* x (3U). So its
        weight falls into a block-diagonal part for deter, (g, D/g, D/g), and one dense matrix for
        x, (3U, D): no g copies of x are ever made. The third is the scale of the three input norms.
        """
        width = self.deter // self.blocks
        own, shared = self.hidden.weight[:, :width], self.hidden.weight[:, width:]
        scale = torch.cat([layer.norm.scale for layer in (self.in_deter, self.in_stoch, self.in_action)])
        return own, shared.transpose(0, 1).flatten(1), scale

    def core(self, deter, stoch, action, weights):
        """h_t = f(h_{t-1}, z_{t-1}, a_{t-1}): (N, D), (N, S, C), (N, U) embedded -> (N, D)."""
        own, shared, scale = weights
        x = torch.cat([self.in_deter.linear(deter), self.in_stoch.linear(stoch.flatten(1)), action], -1)
        x = F.silu(self.in_deter.norm.unit(x.unflatten(-1, (3, -1))).flatten(1) * scale)    # (N, 3U)
        pieces = split_blocks(deter, self.blocks)                           # (g, N, D/g)
        x = join_blocks(pieces @ own) + torch.addmm(self.hidden.bias, x, shared)            # (N, D)
        gates = self.gates(F.silu(self.norm(x)))                            # (g, N, 3D/g)
        reset, candidate, update = gates.chunk(3, -1)                       # (g, N, D/g) each
        candidate = fast_tanh(reset.sigmoid() * candidate)
        update = torch.sigmoid(update - 1)       # -1: a fresh model keeps three quarters of its memory
        return join_blocks(torch.lerp(pieces, candidate, update))           # (N, D)

    def prior(self, deter):
        """Raw logits of p(z_t | h_t): (..., D) -> (..., S, C)."""
        return self.prior_logits(self.prior_hidden(deter)).unflatten(-1, (self.stoch, self.classes))

    def look(self, deter, stoch, action, seen, for_deter, draw, weights):
        """One step of `observe`: (N, D), (N, S, C) of t-1 -> deter, stoch of t and the raw posterior logits (N, S, C).

        action: embedded, (N, U); seen (N, U): the token's share of the posterior's first layer, for_deter (U, D) the
        weight of that layer which reads h. Where an episode begins the state has been zeroed before.
        """
        deter = self.core(deter, stoch, action, weights)                        # (N, D)
        x = F.silu(self.post_hidden.norm(F.linear(deter, for_deter) + seen))    # (N, U)
        logits = self.post_logits(x).unflatten(-1, (self.stoch, self.classes))  # (N, S, C)
        return deter, self.sample(logits, draw), logits

    def observe(self, tokens, prev_action, is_first, state, draw):
        """Run the posterior along a sequence.

        tokens (B, T, E), prev_action (B, T, A): a_{t-1}, is_first (B, T) bool, state: deter
        (B, D) and stoch (B, S, C) from before the first step.
        Returns deter (B, T, D), stoch (B, T, S, C) and the raw posterior logits (B, T, S, C).
        Where is_first, state *and* action are zeroed before the step: an episode begins.
        """
        deter, stoch = state
        keep = (~is_first).to(deter.dtype).unsqueeze(-1)                    # (B, T, 1)
        action = self.embed_action(prev_action * keep)                      # (B, T, U)
        weights = self.prepare()
        # The token's share of the posterior's first layer needs no h_t: one product for all t.
        linear = self.post_hidden.linear
        for_deter, for_token = linear.weight.split([self.deter, tokens.shape[-1]], 1)
        seen = F.linear(tokens, for_token, linear.bias)                     # (B, T, U)
        outputs = []
        for t in range(tokens.shape[1]):
            deter, stoch = deter * keep[:, t], stoch * keep[:, t, None]
            deter, stoch, logits = self.look(deter, stoch, action[:, t], seen[:, t], for_deter, draw, weights)
            outputs.append((deter, stoch, logits))
        return tuple(torch.stack(x, 1) for x in zip(*outputs))

    def imagine(self, deter, stoch, action, draw, weights=None):
        """One step into the dream: (N, D), (N, S, C), a_t (N, A) -> deter and stoch of t + 1."""
        deter = self.core(deter, stoch, self.embed_action(action), weights or self.prepare())
        return deter, self.sample(self.prior(deter), draw)

    def sample(self, logits, draw):
        """z ~ unimix categorical, with straight-through gradients: (..., S, C) -> (..., S, C)."""
        probs = unimix(logits, self.mix)
        return straight_through(draw.one_hot(probs), probs)


def features(deter, stoch):
    """What the heads read: deter (..., D), stoch (..., S, C) -> (..., D + S*C)."""
    return torch.cat([deter, stoch.flatten(-2)], -1)
