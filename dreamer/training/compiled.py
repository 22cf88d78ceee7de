"""--compile: the same losses, joined into larger pieces of machine code by torch.compile.

An update of this size is thousands of small operations, and a good part of its time goes into starting each of them.
Compiled it is 1.4 times as fast on an idle CPU (`python benchmarks/compiled.py`), after two minutes of compiling, of
which the next start finds most in torch's own cache: worth it for runs of an hour, not for CartPole. It needs a C++
compiler. The arithmetic is the same; its rounding and the order of its random numbers are not, so a compiled run is
another run of the same seed.

On CUDA the kernels are recorded as well, so that one call starts all of the loss and another all of its gradient, and
matrix products are made in bfloat16. The optimiser's own few kernels stay outside. There the compiler takes many minutes
(README, "Speed"); without --compile a run on CUDA records the kernels as they are, see recorded.py.
"""

import operator
import warnings

import torch
import torch.nn.functional as F

from ..distributions import Draw

UPDATES = ("update", "update_world_model")
GUARDED = 3         # updates that may fail: the first compiles, on CUDA the second records and the third plays back
PRODUCTS = {F.linear, torch.conv2d, torch.addmm, torch.baddbmm, operator.matmul}


def compile_losses(learner, say=print, backend=None):
    """Let `learner` compile its losses at the first update; where that fails, `say` why and go on with those it has.

    Compiled code can only draw from the device's own generator, so from here on all draws of the learner do.
    """
    cuda = learner.device.type == "cuda"
    backend = backend or (recorded if cuda else "inductor")
    own = torch.cuda.default_generators[learner.device.index or 0] if cuda else torch.default_generator
    learner.draw = Draw(own.manual_seed(learner.config.seed))
    warnings.filterwarnings("ignore", "torch.searchsorted")       # the compiler leaves out a .contiguous() in twohot_code
    for module in (learner.agent, learner.agent.world_model):
        module.loss = drawing_alone(torch.compile(module.loss, backend=backend, fullgraph=True, dynamic=False))
    for name in UPDATES:
        setattr(learner, name, guarded(learner, getattr(learner, name), say))


def drawing_alone(loss):
    """`loss` with a Draw that names no generator: the compiler knows the device's own without a name.

    Recorded kernels write their results where the last update's stood: single numbers, which are kept, are copied.
    """
    def alone(batch, state, draw, *starts):
        if not torch.compiler.is_compiling():       # the agent's loss, traced, comes by here for its world model's
            torch.compiler.cudagraph_mark_step_begin()
        found = loss(batch, state, Draw(), *starts)
        return tuple({k: v.clone() if v.dim() == 0 else v for k, v in x.items()} if isinstance(x, dict) else x for x in found)
    return alone


def recorded(graph, inputs):
    """The compiler for CUDA: products in halves, and the kernels of loss and gradient recorded, a CUDA graph each."""
    return torch._inductor.compile(in_halves(graph), inputs, options={"triton.cudagraphs": True})


def in_halves(graph):
    """Let a traced loss make its matrix products and convolutions in bfloat16, in place; all else stays float32.

    So do states, norms and losses, and the product with a vector: the mean over the bins, which reach 5e8, would drown.
    """
    for node in list(graph.graph.nodes):
        factors = [x for x in node.args if isinstance(x, torch.fx.Node)]
        if node.target not in PRODUCTS or factors[1].meta["example_value"].dim() == 1:
            continue
        with graph.graph.inserting_before(node):
            node.args = tuple(graph.graph.call_method("bfloat16", (x,)) if x in factors else x for x in node.args)
        with graph.graph.inserting_after(node):
            result = graph.graph.call_method("float", (node,))
        node.replace_all_uses_with(result, delete_user_cb=lambda user, result=result: user is not result)
    graph.recompile()
    return graph


def guarded(learner, update, say):
    """`update`, the first times. It may fail in the compiler, or for want of one; then the losses are again as they were."""
    left = GUARDED

    def first(batch, state):
        nonlocal left
        left -= 1
        if not left:
            release(learner)                        # from then on the learner's own, and nothing is caught
        try:
            return update(batch, state)
        except Exception as error:                  # of torch, of the compiler, of the system: all sorts
            reason = " ".join([type(error).__name__, *str(error).split("\n\n")[0].split()])
            say(f"--compile is not possible here ({reason[:200]}); going on without it")
        release(learner)
        for module in (learner.agent, learner.agent.world_model):
            module.__dict__.pop("loss", None)
        for parameter in learner.agent.parameters():
            parameter.grad = None
        return update(batch, state)
    return first


def release(learner):
    for name in UPDATES:
        learner.__dict__.pop(name, None)
