"""--compile: much of an update joined into larger pieces of machine code by torch.compile.

An update of this size is thousands of small operations, and a good part of its time goes into starting each of them.
On a CPU its losses are compiled whole: 1.4 times as fast on an idle one (`python benchmarks/compiled.py`), after two minutes of
compiling, of which the next start finds most in torch's own cache: worth it for runs of an hour, not for CartPole. It needs a
C++ compiler. The arithmetic is the same; its rounding and the order of its random numbers are not, so a compiled run is
another run of the same seed.

On CUDA losses that are unrolled over a sequence keep the compiler busy for many minutes. So there one step of the RSSM, one of
the dream, the actor's layers and the encoder and decoder of pictures are compiled, each once, with their matrix products and
convolutions in bfloat16; and the kernels of the whole are recorded as they are without --compile, see recorded.py.
"""

import operator
import warnings

import torch
import torch.nn.functional as F

from ..distributions import Draw

UPDATES = ("update", "update_world_model")
GUARDED = 3         # updates that may fail: the first compiles, on CUDA the third is recorded
PRODUCTS = {F.linear, torch.conv2d, torch.addmm, torch.baddbmm, operator.matmul}


def losses(agent):
    """What is compiled on a CPU: modules, and the name of a method of each."""
    return [(agent, "loss"), (agent.world_model, "loss")]


def steps(agent):
    """What is compiled on CUDA: steps of RSSM and actor, and the two networks of pictures, where there are pictures."""
    world_model = agent.world_model
    pictures = [part.image for part in (world_model.encoder, world_model.decoder) if part.image]
    return [(world_model.rssm, "look"), (world_model.rssm, "imagine"), *((x, "forward") for x in (agent.actor.mlp, *pictures))]


def compile_update(learner, say=print, pieces=None, backend=None):
    """Let `learner` compile the pieces of its update when it first gets to them; where that fails, `say` why and go on without.

    pieces: a function of the agent, by default `steps` on CUDA and `losses` elsewhere. Compiled code can only draw from the
    device's own generator, so from here on all draws of the learner do.
    """
    cuda = learner.device.type == "cuda"
    backend, pieces = backend or (halved if cuda else "inductor"), (pieces or (steps if cuda else losses))(learner.agent)
    own = torch.cuda.default_generators[torch.cuda.current_device()] if cuda else torch.default_generator
    learner.draw = Draw(own.manual_seed(learner.config.seed))
    for thought in ("torch.searchsorted", r"\s*Online softmax"):       # of the compiler about its own choices
        warnings.filterwarnings("ignore", thought)
    for module, name in pieces:
        setattr(module, name, drawing_alone(torch.compile(getattr(module, name), backend=backend, fullgraph=True, dynamic=False)))
    for name in UPDATES:
        setattr(learner, name, guarded(learner, getattr(learner, name), say))


def drawing_alone(piece):
    """`piece` with a Draw that names no generator: the compiler knows the device's own without a name."""
    return lambda *inputs: piece(*(Draw() if isinstance(x, Draw) else x for x in inputs))


def halved(graph, inputs):
    """The compiler for CUDA: with products in halves."""
    return torch._inductor.compile(in_halves(graph), inputs)


def in_halves(graph):
    """Let a traced piece make its matrix products and convolutions in bfloat16, in place; states and norms stay float32."""
    for node in list(graph.graph.nodes):
        if node.target not in PRODUCTS:
            continue
        factors = [x for x in node.args if isinstance(x, torch.fx.Node)]
        with graph.graph.inserting_before(node):
            node.args = tuple(graph.graph.call_method("bfloat16", (x,)) if x in factors else x for x in node.args)
        with graph.graph.inserting_after(node):
            result = graph.graph.call_method("float", (node,))
        node.replace_all_uses_with(result, delete_user_cb=lambda user, result=result: user is not result)
    graph.recompile()
    return graph


def guarded(learner, update, say):
    """`update`, the first times. It may fail in the compiler, or for want of one; then the pieces are again as they were."""
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
        as_it_was(learner)
        return update(batch, state)
    return first


def release(learner):
    for name in UPDATES:
        learner.__dict__.pop(name, None)


def as_it_was(learner):
    """Take compiled pieces out of `learner` again, if there are any, and what a failed update has left. Were there any?"""
    found = [module.__dict__.pop(name, None) for pieces in (losses, steps) for module, name in pieces(learner.agent)]
    for parameter in learner.agent.parameters():
        parameter.grad = None
    return any(found)
