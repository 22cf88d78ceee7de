"""How much faster an update is with --compile, and what compiling costs: python benchmarks/compiled.py

The course's recipe, of any size and batch. Two learners of the same seed take turns, one of them compiled as --compile does
it, on CUDA recorded and with products in bfloat16; what is quoted is the median of the ratios within a turn. Compiling takes
minutes the first time on a CPU; torch keeps what it has made, so a second start is shorter. Where it fails, its reason is all that is said.
--recorded compares with what a run on CUDA does without --compile: the same kernels, recorded and played back.
"""

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))     # to run as a script, from any folder

import dreamer  # noqa: F401 (before torch: it sets how long idle threads spin)
import torch

from benchmarks.pixels import CHANNELS, batch_of, clock
from dreamer.config import SIZES, Config
from dreamer.learner import Learner
from dreamer.training.compiled import compile_update
from dreamer.training.memory import keep_memory
from dreamer.training.recorded import record_gradient
from dreamer.world_model.encoder import ObservationSpec

VECTOR, ACTIONS = 8, 6


def subject(config, pixels, device, prepare=lambda learner: None):
    """A function that makes one update of a learner of its own."""
    learner = Learner(ObservationSpec(image=CHANNELS) if pixels else ObservationSpec(vector=VECTOR), ACTIONS, False, config, device)
    prepare(learner)
    batch, state = batch_of(config, device)
    if not pixels:
        batch["obs"] = {"vector": torch.randn(config.batch_size, config.batch_length, VECTOR, device=device)}
    return lambda: learner.update(batch, state)


def measure(config, pixels, turns, device, prepare):
    """Seconds until the prepared learner is fast, milliseconds of one update of each kind, and the ratio of the two."""
    plain, fast = subject(config, pixels, device), subject(config, pixels, device, prepare)
    clock(plain, device)
    first = sum(clock(fast, device) for _ in range(3)) / 1e3        # compiled at the first, recorded at the third
    times = [(clock(plain, device), clock(fast, device)) for _ in range(turns)]
    return {"first_s": first, "plain_ms": statistics.median(t[0] for t in times),
            "fast_ms": statistics.median(t[1] for t in times), "ratio": statistics.median(a / b for a, b in times)}


def faster(device, recorded=False, backend=None, say=sys.exit):
    """What a run does to be fast, a function of its learner: --compile, and on CUDA the recording. recorded: that alone.

    say: gets the reason where it is not possible; by default that ends the program.
    """
    def prepare(learner):
        if not recorded:
            compile_update(learner, say, backend=backend)
        if device == "cuda":
            record_gradient(learner, say)
    return prepare


def sentence(config, pixels, found, device, recorded):
    """What `measure` found, in words."""
    return (f"{device}, {torch.get_num_threads()} thread(s), size {config.size}, {config.batch_size} x {config.batch_length} "
            f"{'pictures' if pixels else 'vectors'}: one update {found['plain_ms']:.0f} ms, "
            f"{'recorded' if recorded else 'compiled'} {found['fast_ms']:.0f} ms ({1e3 / found['fast_ms']:.1f} a second): "
            f"{found['ratio']:.2f} times as fast; its first three took {found['first_s']:.0f} s")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=30, help="updates of each kind")
    parser.add_argument("--threads", type=int, default=1, help="threads of both")
    parser.add_argument("--pixels", action="store_true", help="with pictures instead of a vector")
    parser.add_argument("--size", default=Config.size, choices=SIZES, help="model size")
    parser.add_argument("--batch-size", type=int, default=Config.batch_size, help="sequences per update")
    parser.add_argument("--batch-length", type=int, default=Config.batch_length, help="steps per sequence")
    parser.add_argument("--recorded", action="store_true", help="CUDA: not compiled, but recorded, as it is without --compile")
    parser.add_argument("--tiny", action="store_true", help="toy shapes, not really compiled: only to see that it runs")
    flags = parser.parse_args(arguments)
    keep_memory()
    torch.set_num_threads(flags.threads)
    toy = dict(batch_size=2, batch_length=4, starts=4, imagination_horizon=3)
    asked = dict(size=flags.size, batch_size=flags.batch_size, batch_length=flags.batch_length)
    config, device = replace(Config(), **toy if flags.tiny else asked), "cuda" if torch.cuda.is_available() else "cpu"
    if flags.recorded and device == "cpu":
        parser.error("--recorded is for CUDA, and there is none here")
    prepare = faster(device, flags.recorded, "eager" if flags.tiny else None)
    found = measure(config, flags.pixels, flags.turns, device, prepare)
    print(sentence(config, flags.pixels, found, device, flags.recorded))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; nothing is kept of what was not finished")
