"""What is written for speed gives what its plain form gives."""

import torch
import torch.nn.functional as F

from dreamer.distributions import Draw
from dreamer.layers import fast_tanh
from dreamer.world_model.decoder import DoublingConv


def test_fast_tanh_is_tanh():
    x = torch.linspace(-20, 20, 1001)
    torch.testing.assert_close(fast_tanh(x), x.tanh(), rtol=1e-5, atol=3e-7)


def test_drawn_classes_have_their_probabilities():
    probs = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.97, 0.01, 0.01, 0.01]])
    drawn = Draw(torch.Generator().manual_seed(0)).one_hot(probs.expand(20000, 2, 4))
    assert torch.equal(drawn.sum(-1), torch.ones(20000, 2)) and set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), probs, rtol=0, atol=0.015)


def test_doubling_within_a_convolution_is_doubling_before_it():
    """Picture, gradients of picture, weight and bias; the border, too, and a picture that is not square."""
    torch.manual_seed(0)
    conv, x = DoublingConv(3, 2), torch.randn(4, 3, 5, 6, requires_grad=True)
    with torch.no_grad():
        conv.bias.normal_()
    plain = F.conv2d(F.interpolate(x, scale_factor=2), conv.weight, conv.bias, padding=2)
    fast = conv(x)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
    weights, parts = torch.randn_like(plain), (x, conv.weight, conv.bias)
    wanted, got = (torch.autograd.grad((y * weights).sum(), parts) for y in (plain, fast))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-4)
    assert set(conv.state_dict()) == {"weight", "bias"}         # a checkpoint holds what is learned, no more
