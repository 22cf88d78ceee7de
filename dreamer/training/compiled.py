"""--compile: the same losses, joined into larger pieces of machine code by torch.compile.

An update of this size is thousands of small operations, and a good part of its time goes into starting each of them.
Compiled it is 1.4 times as fast on an idle CPU (`python benchmarks/compiled.py`), after two minutes of compiling, of
which the next start finds most in torch's own cache: worth it for runs of an hour, not for CartPole. It needs a C++
compiler. The arithmetic is the same; its rounding and the order of its random numbers are not, so a compiled run is
another run of the same seed.
"""

import warnings

import torch

from ..distributions import Draw

UPDATES = ("update", "update_world_model")


def compile_losses(learner, say=print, backend="inductor"):
    """Let `learner` compile its losses at the first update; where that fails, `say` why and go on with those it has.

    Compiled code can only draw from the device's own generator, so from here on all draws of the learner do.
    """
    cuda = learner.device.type == "cuda"
    own = torch.cuda.default_generators[learner.device.index or 0] if cuda else torch.default_generator
    learner.draw = Draw(own.manual_seed(learner.config.seed))
    warnings.filterwarnings("ignore", "torch.searchsorted")       # the compiler leaves out a .contiguous() in twohot_code
    for module in (learner.agent, learner.agent.world_model):
        module.loss = drawing_alone(torch.compile(module.loss, backend=backend, fullgraph=True, dynamic=False))
    for name in UPDATES:
        setattr(learner, name, first_update(learner, getattr(learner, name), say))


def drawing_alone(loss):
    """`loss` with a Draw that names no generator: the compiler knows the device's own without a name."""
    return lambda batch, state, draw, *starts: loss(batch, state, Draw(), *starts)


def first_update(learner, update, say):
    """`update`, that once. It may fail in the compiler, or for want of one; then learner and losses are as they were."""
    def first(batch, state):
        for name in UPDATES:
            learner.__dict__.pop(name, None)        # from the second time on the learner's own, and nothing is caught
        try:
            return update(batch, state)
        except Exception as error:                  # of torch, of the compiler, of the system: all sorts
            reason = " ".join([type(error).__name__, *str(error).split("\n\n")[0].split()])
            say(f"--compile is not possible here ({reason[:200]}); going on without it")
        for module in (learner.agent, learner.agent.world_model):
            module.__dict__.pop("loss", None)
        for parameter in learner.agent.parameters():
            parameter.grad = None
        return update(batch, state)
    return first
