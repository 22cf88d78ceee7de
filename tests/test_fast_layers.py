"""What is written for speed gives what its plain form gives."""

import torch

from dreamer.distributions import Draw
from dreamer.layers import fast_tanh


def test_fast_tanh_is_tanh():
    x = torch.linspace(-20, 20, 1001)
    torch.testing.assert_close(fast_tanh(x), x.tanh(), rtol=1e-5, atol=3e-7)


def test_drawn_classes_have_their_probabilities():
    probs = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.97, 0.01, 0.01, 0.01]])
    drawn = Draw(torch.Generator().manual_seed(0)).one_hot(probs.expand(20000, 2, 4))
    assert torch.equal(drawn.sum(-1), torch.ones(20000, 2)) and set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), probs, rtol=0, atol=0.015)
