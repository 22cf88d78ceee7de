"""--compile gives the same losses from the same random numbers, survives a stop, and steps aside where it is not possible.

`aot_eager` traces a loss and its gradient as the compiler does and leaves out the machine code, which takes minutes.
"""

from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from benchmarks import compiled as benchmark
from dreamer.config import SIZES
from dreamer.distributions import Draw
from dreamer.learner import Learner
from dreamer.training import loop
from dreamer.training.compiled import compile_losses
from dreamer.training.loop import Run
from dreamer.world_model.encoder import ObservationSpec
from toys import tiny

pytestmark = pytest.mark.usefixtures("tiny_size")
SPEC = ObservationSpec(vector=4, symbols=(3, 2))


def learner(**changes):
    """A learner that draws from torch's default generator, as a compiled one does."""
    made = Learner(SPEC, 3, True, tiny(**changes))
    made.draw = Draw(torch.default_generator.manual_seed(made.config.seed))
    return made


def a_batch(config):
    rows, generator = (config.batch_size, config.batch_length), torch.Generator().manual_seed(1)
    random = lambda *shape: torch.rand(*rows, *shape, generator=generator)
    batch = {"obs": {"vector": random(4), "symbols": (2 * random(2)).to(torch.int16)}, "prev_action": random(3), "reward": random(),
             "is_first": random() < 0.1, "is_last": random() < 0.1, "is_terminal": random() < 0.05}
    deter = torch.rand(rows[0], SIZES[config.size].deter, generator=generator)
    return batch, (deter, torch.zeros(rows[0], config.stoch, dtype=torch.long))


def updated(learner, update, times=3):
    """Parameters and the last metrics after some updates on one batch."""
    batch, state = a_batch(learner.config)
    for _ in range(times):
        metrics, _ = getattr(learner, update)(batch, state)
    return list(learner.agent.parameters()), metrics


@pytest.mark.parametrize("update", ["update", "update_world_model"])
def test_a_compiled_update_is_the_same_update(update):
    plain, metrics = updated(learner(), update)
    said, fast = [], learner()
    compile_losses(fast, said.append, backend="aot_eager")
    traced = counters["stats"]["unique_graphs"]
    parameters, again = updated(fast, update)
    assert counters["stats"]["unique_graphs"] == traced + 1 and not said        # it was traced, whole, and once
    for mine, theirs in zip(parameters, plain):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
    assert {name: float(x) for name, x in again.items()} == pytest.approx({name: float(x) for name, x in metrics.items()}, rel=1e-3)


def no_compiler(graph, inputs):
    raise OSError("g++: no such file\nand a trace of thirty lines")


@pytest.mark.parametrize("update", ["update", "update_world_model"])
def test_without_a_compiler_one_line_says_so_and_the_run_goes_on(update):
    said, slow = [], learner()
    compile_losses(slow, said.append, backend=no_compiler)
    parameters, _ = updated(slow, update)
    assert len(said) == 1 and "--compile is not possible here" in said[0] and "g++: no such file" in said[0] and "\n" not in said[0]
    assert slow.updates == 3 and "loss" not in slow.agent.__dict__ and all(p.isfinite().all() for p in parameters)


def test_after_the_first_update_nothing_is_caught():
    fast = learner()
    compile_losses(fast, backend="eager")
    batch, state = a_batch(fast.config)
    fast.update(batch, state)
    with pytest.raises(KeyError):
        fast.update({}, state)


class Stop(Exception):
    pass


def test_a_compiled_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "compile_losses", partial(compile_losses, backend="aot_eager"))

    def stop(run, event, values):
        if event == "save" and run.step >= 30:
            raise Stop

    def run(folder, watchers=()):
        return Run(tiny(compile=True, steps=60, output=str(tmp_path / folder)), watchers=watchers)
    whole = run("whole")
    whole.train()
    with pytest.raises(Stop):
        run("stopped", [stop]).train()
    torch.rand(100)                                     # somebody else's draws in between
    resumed = run("stopped")
    resumed.train()
    assert resumed.learner.updates == whole.learner.updates > 3
    for mine, theirs in zip(resumed.learner.agent.parameters(), whole.learner.agent.parameters()):
        assert torch.equal(mine, theirs)


def test_a_run_without_the_flag_is_not_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "compile_losses", lambda *_: pytest.fail("compiled"))
    assert Run(tiny(output=str(tmp_path))).learner.draw.generator is not torch.default_generator


def test_the_benchmark_compares_the_two(capsys):
    benchmark.main(["--tiny", "--turns", "1"])
    assert "times as fast" in capsys.readouterr().out
