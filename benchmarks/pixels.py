"""What pictures cost: a whole update with them, and its convolutions beside the same convolutions alone.

The convolutions of one update, on every picture of the batch, forward and backward: four of 5 x 5 that look (64, 32, 16 and 8
pixels wide), and four that paint, each of them on the small picture, 3 x 3 with four times the outputs, since its taps on copies
of a pixel are added up before (`DoublingConv`). The first has no gradient of its input, which is data.
"""

import statistics
import time

import torch
import torch.nn.functional as F

from dreamer.config import SIZES
from dreamer.learner import Learner
from dreamer.world_model.encoder import IMAGE_SIZE, STAGES, ObservationSpec

CHANNELS, ACTIONS = 3, 6        # as walker_walk has them


def batch_of(config, device):
    """A batch of pictures of noise, and the zero state: what `Learner.update` takes."""
    rows = config.batch_size, config.batch_length
    pictures = torch.randint(0, 256, (*rows, IMAGE_SIZE, IMAGE_SIZE, CHANNELS), dtype=torch.uint8)
    never = torch.zeros(rows, dtype=torch.bool)
    batch = {"obs": {"image": pictures}, "prev_action": torch.rand(*rows, ACTIONS) * 2 - 1, "reward": torch.rand(rows),
             "is_first": never, "is_last": never, "is_terminal": never}
    put = lambda x: {k: put(v) for k, v in x.items()} if isinstance(x, dict) else x.to(device)
    deter = SIZES[config.size].deter
    state = torch.zeros(rows[0], deter), torch.zeros(rows[0], config.stoch, dtype=torch.long)
    return put(batch), tuple(x.to(device) for x in state)


def looking_and_painting(learner, batch, state):
    """A function: encoder and decoder of the pictures alone, forward and backward."""
    world, obs = learner.agent.world_model, batch["obs"]
    deter, stoch = world.rssm.initial(batch["reward"].numel())
    deter, stoch = (x.requires_grad_() for x in (deter, stoch))
    flat = {"image": obs["image"].flatten(0, 1)}

    def run():
        token, said = world.encoder(flat), world.decoder(deter, stoch)
        (token.sum() + world.decoder.loss(said, flat).sum()).backward()
        world.zero_grad(set_to_none=True)
    return run


def shapes(config):
    """(inputs, outputs, kernel, pixels along each side, gradient of the input?) of each convolution of an update."""
    widths = [SIZES[config.size].depth * k for k in STAGES]
    sides = [IMAGE_SIZE >> k for k in range(len(widths))]
    look = [(i, o, 5, side, k > 0) for k, (i, o, side) in enumerate(zip([CHANNELS, *widths], widths, sides))]
    back = widths[::-1]
    return look + [(i, 4 * o, 3, side // 2, True) for i, o, side in zip(back, [*back[1:], CHANNELS], sides[::-1])]


def convolutions(config, device):
    """A function: the same convolutions alone, forward and backward, channels last in memory."""
    count, ready = config.batch_size * config.batch_length, []
    for inputs, outputs, kernel, side, trained in shapes(config):
        x, y = (torch.randn(count, c, side, side, device=device).to(memory_format=torch.channels_last) for c in (inputs, outputs))
        weight = torch.randn(outputs, inputs, kernel, kernel, device=device, requires_grad=True)
        ready.append((x.requires_grad_(trained), weight, torch.zeros(outputs, device=device, requires_grad=True), y))

    def run():
        for x, weight, bias, gradient in ready:
            F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2).backward(gradient)
            x.grad = weight.grad = bias.grad = None
    return run


def clock(work, device):
    """Milliseconds that work() takes."""
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def pixels(config, turns, device="cpu"):
    """A whole update with pictures, its encoder and decoder, and their convolutions alone, in turns: milliseconds and ratios."""
    learner = Learner(ObservationSpec(image=CHANNELS), ACTIONS, False, config, device)
    batch, state = batch_of(config, device)
    sides = {"update": lambda: learner.update(batch, state), "networks": looking_and_painting(learner, batch, state),
             "convolutions": convolutions(config, device)}
    for work in sides.values():
        clock(work, device)
    times = [{name: clock(work, device) for name, work in sides.items()} for _ in range(turns)]
    found = {f"{name}_ms": statistics.median(t[name] for t in times) for name in sides}
    return found | {"ratio": statistics.median(t["networks"] / t["convolutions"] for t in times),
                    "share": statistics.median(t["networks"] / t["update"] for t in times)}


def sentence(found, device):
    """What `pixels` found, in words."""
    return (f"with pictures, {device}: one update {found['update_ms']:.0f} ms ({1e3 / found['update_ms']:.1f} a second); encoder and decoder "
            f"{found['networks_ms']:.0f} ms, {found['share']:.0%} of it; their convolutions alone {found['convolutions_ms']:.0f} ms; "
            f"networks / convolutions = {found['ratio']:.2f}")
