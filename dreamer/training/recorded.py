"""On CUDA: the kernels of one loss and its gradient, recorded once and then played back.

An update starts thousands of kernels, and on a GPU the start of each takes longer than the kernel. So the first updates
run as everywhere else; then those of one are recorded (a CUDA graph), and one call starts them all. No compiler is
needed, and the numbers are the same: a recording draws its random numbers from the learner's own generator.
"""

import torch

from ..distributions import Draw
from .compiled import as_it_was

WARM = 2            # updates before the recording: libraries make their plans and reserve their memory


def record_gradient(learner, say=print):
    """Let `learner` record its gradient at its third update; where that fails, `say` why and go on without, uncompiled too."""
    plain, stream, left = learner.gradient, torch.cuda.Stream(), WARM

    def first(*inputs):
        nonlocal left
        left -= 1
        if left >= 0:
            return beside(stream, plain, *inputs)
        del learner.gradient
        before = learner.draw.generator.get_state()
        try:
            learner.gradient = Recording(learner, stream, inputs)
        except Exception as error:                  # of torch or of CUDA: all sorts
            compiled = as_it_was(learner)           # it draws from the device's own generator, which may think so, too
            say(f"the gradient cannot be recorded here ({type(error).__name__}: {' '.join(str(error).split())[:200]}); "
                f"going on without a recording{' and without --compile' * compiled}")
            torch.cuda.synchronize()
            learner.draw = Draw(torch.Generator(learner.device))        # the other one may still think it is recorded
            learner.draw.generator.set_state(before)
        return learner.gradient(*inputs)
    learner.gradient = first


def beside(stream, work, *inputs):
    """work(*inputs) on another stream: what is to be recorded may not depend on unrecorded work of the usual one."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = work(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    return result


class Recording:
    """Stands in for `Learner.gradient` of a learner. Its results, but for the metrics, hold until the next call."""

    def __init__(self, learner, stream, inputs):
        self.parameters = learner.optimizer.parameters
        self.inputs = each(torch.clone, inputs)
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(learner.draw.generator)
        with torch.cuda.graph(self.graph, stream=stream):
            self.results = each(torch.Tensor.detach, learner.gradient(*self.inputs))
        self.gradients = [parameter.grad for parameter in self.parameters]

    def __call__(self, *inputs):
        each(torch.Tensor.copy_, self.inputs, inputs)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient               # the optimiser takes it away
        losses, metrics, model = self.results
        return losses, each(torch.clone, metrics), model


def each(work, first, *others):
    """work(x, ...) for every tensor x in dicts and tuples of them, and those at the same places in `others`."""
    if isinstance(first, dict):
        return {key: each(work, x, *(other[key] for other in others)) for key, x in first.items()}
    if isinstance(first, tuple):
        return tuple(each(work, *xs) for xs in zip(first, *others))
    return work(first, *others)
