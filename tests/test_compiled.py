"""--compile gives the same losses from the same random numbers, survives a stop, and steps aside where it is not possible.

`aot_eager` traces a piece and its gradient as the compiler does and leaves out the machine code, which takes minutes.
What is done for CUDA is tested here up to the recording: its pieces, their products in halves, and that a late failure is survived.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from benchmarks import compiled as benchmark
from dreamer.config import SIZES
from dreamer.distributions import Draw
from dreamer.learner import Learner
from dreamer.training import loop
from dreamer.training.compiled import GUARDED, compile_update, in_halves, losses, steps
from dreamer.training.loop import Run
from dreamer.world_model.encoder import Conv, ObservationSpec
from toys import tiny

pytestmark = pytest.mark.usefixtures("tiny_size")
SPEC, PICTURES = ObservationSpec(vector=4, symbols=(3, 2)), ObservationSpec(image=3)


def learner(spec=SPEC, **changes):
    """A learner that draws from torch's default generator, as a compiled one does."""
    made = Learner(spec, 3, True, tiny(**changes))
    made.draw = Draw(torch.default_generator.manual_seed(made.config.seed))
    return made


def a_batch(config, spec=SPEC):
    rows, generator = (config.batch_size, config.batch_length), torch.Generator().manual_seed(1)
    random = lambda *shape: torch.rand(*rows, *shape, generator=generator)
    obs = {"image": (255 * random(64, 64, 3)).to(torch.uint8)} if spec.image else {
        "vector": random(4), "symbols": (2 * random(2)).to(torch.int16)}
    batch = {"obs": obs, "prev_action": random(3), "reward": random(),
             "is_first": random() < 0.1, "is_last": random() < 0.1, "is_terminal": random() < 0.05}
    deter = torch.rand(rows[0], SIZES[config.size].deter, generator=generator)
    return batch, (deter, torch.zeros(rows[0], config.stoch, dtype=torch.long))


def updated(learner, update, times=3):
    """Parameters and the last metrics after some updates on one batch."""
    batch, state = a_batch(learner.config, learner.agent.world_model.encoder.spec)
    for _ in range(times):
        metrics, _ = getattr(learner, update)(batch, state)
    return list(learner.agent.parameters()), metrics


@pytest.mark.parametrize("spec, update, pieces, graphs", [
    (SPEC, "update", losses, 1), (SPEC, "update_world_model", losses, 1), (SPEC, "update", steps, 5),
    (SPEC, "update_world_model", steps, 2), (PICTURES, "update", steps, 7)])
def test_a_compiled_update_is_the_same_update(spec, update, pieces, graphs):
    """Of the steps the first of a sequence is one of its own, as its state has no gradient, and the actor's in a dream."""
    torch.compiler.reset()                          # what other tests have traced
    plain, metrics = updated(learner(spec), update)
    said, fast = [], learner(spec)
    compile_update(fast, said.append, pieces, backend="aot_eager")
    traced = counters["stats"]["unique_graphs"]
    parameters, again = updated(fast, update)
    assert counters["stats"]["unique_graphs"] == traced + graphs and not said   # pieces were traced, whole, and once
    for mine, theirs in zip(parameters, plain):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
    assert {name: float(x) for name, x in again.items()} == pytest.approx({name: float(x) for name, x in metrics.items()}, rel=1e-3)


def no_compiler(graph, inputs):
    raise OSError("g++: no such file\nand a trace of thirty lines")


def is_free(learner):
    return not any(name in module.__dict__ for pieces in (losses, steps) for module, name in pieces(learner.agent))


@pytest.mark.parametrize("update, pieces", [("update", losses), ("update_world_model", losses), ("update", steps)])
def test_without_a_compiler_one_line_says_so_and_the_run_goes_on(update, pieces):
    said, slow = [], learner()
    compile_update(slow, said.append, pieces, backend=no_compiler)
    assert not is_free(slow)
    parameters, _ = updated(slow, update)
    assert len(said) == 1 and "--compile is not possible here" in said[0] and "g++: no such file" in said[0] and "\n" not in said[0]
    assert slow.updates == 3 and is_free(slow) and all(p.isfinite().all() for p in parameters)


def test_a_failure_while_kernels_are_recorded_is_survived_too():
    calls = []

    def failing_later(graph, inputs):
        def run(*args):
            calls.append(1)
            if len(calls) == 2:
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
            return graph.forward(*args)
        return run
    said, slow = [], learner()
    compile_update(slow, said.append, backend=failing_later)
    parameters, _ = updated(slow, "update")
    assert len(said) == 1 and "stream is capturing" in said[0] and len(calls) == 2
    assert slow.updates == 3 and is_free(slow) and all(p.isfinite().all() for p in parameters)


def test_after_the_first_updates_nothing_is_caught():
    said, fast = [], learner()
    compile_update(fast, said.append, backend="eager")
    batch, state = a_batch(fast.config)
    for _ in range(GUARDED):
        fast.update(batch, state)
    with pytest.raises(KeyError):
        fast.update({}, state)
    assert not said


# ------------------------------------------------------------------ in halves

def test_in_halves_every_product_of_a_step_is_made_in_bfloat16():
    found = {}                                      # what the products of steps and of their gradient are made of, by operation

    def look(graph, inputs):
        for node in graph.graph.nodes:
            name = str(node.target).removeprefix("aten.").split(".")[0]
            if name in ("mm", "addmm", "bmm", "baddbmm", "mv", "dot", "convolution"):
                found.setdefault(name, set()).update(x.meta["val"].dtype for x in node.args if isinstance(x, torch.fx.Node))
        return torch._functorch.aot_autograd.make_boxed_func(graph.forward)
    spy, fast = aot_autograd(fw_compiler=look, bw_compiler=look), learner()
    _, metrics = updated(learner(), "update", 1)
    compile_update(fast, pytest.fail, steps, backend=lambda graph, inputs: spy(in_halves(graph), inputs))
    parameters, again = updated(fast, "update", 1)
    assert {"mm", "addmm", "bmm", "baddbmm"} <= set(found)
    assert all(kinds == {torch.bfloat16} for kinds in found.values()), found
    assert {x.dtype for x in (*parameters, *again.values())} == {torch.float32}
    for name in metrics:                            # eight bits of mantissa: two or three digits
        assert float(again[name]) == pytest.approx(float(metrics[name]), rel=0.05, abs=0.01), name


def test_in_halves_a_convolution_gives_the_rounded_numbers():
    conv, x = Conv(3, 4), torch.rand(2, 3, 8, 8)
    y = torch.compile(conv, backend=lambda graph, inputs: in_halves(graph).forward, fullgraph=True)(x)
    rounded = F.conv2d(x.bfloat16(), conv.weight.bfloat16(), conv.bias.bfloat16(), padding=2)
    assert y.dtype == torch.float32 and torch.equal(y, rounded.float()) and not torch.equal(y, conv(x))


class Stop(Exception):
    pass


def test_a_compiled_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "compile_update", partial(compile_update, backend="aot_eager"))

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
    monkeypatch.setattr(loop, "compile_update", lambda *_: pytest.fail("compiled"))
    assert Run(tiny(output=str(tmp_path))).learner.draw.generator is not torch.default_generator


def test_the_benchmark_compares_the_two(capsys):
    benchmark.main(["--tiny", "--turns", "1"])
    assert "times as fast" in capsys.readouterr().out


def test_the_benchmark_says_how_many_times_as_fast_the_compiled_one_is(monkeypatch):
    fast = lambda learner: None
    monkeypatch.setattr(benchmark, "subject", lambda *a: 10.0 if fast in a else 40.0)
    monkeypatch.setattr(benchmark, "clock", lambda work, device: work)
    assert benchmark.measure(tiny(), False, 3, "cpu", fast) == {"first_s": 0.03, "plain_ms": 40, "fast_ms": 10, "ratio": 4}


def test_the_benchmark_records_as_a_run_on_cuda_does_and_says_where_there_is_none(monkeypatch, capsys):
    asked, compiled = [], []
    monkeypatch.setattr(benchmark, "record_gradient", lambda learner, say: asked.append(learner.config.batch_length))
    monkeypatch.setattr(benchmark, "compile_update", lambda learner, say, backend: compiled.append(backend))
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(benchmark, "measure", lambda config, pixels, turns, device, prepare: (
            prepare(learner()), {"plain_ms": 40.0, "fast_ms": 10.0, "ratio": 4.0, "first_s": 1.0})[1])
        benchmark.main(["--recorded"])
        assert len(asked) == 1 and not compiled
        assert "recorded 10 ms (100.0 a second): 4.00 times as fast" in capsys.readouterr().out
        benchmark.main([])
        assert len(asked) == 2 and compiled == [None]              # compiled and recorded
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(torch.cuda, "is_available", lambda: False)
        benchmark.main(["--recorded"])
    assert "--recorded is for CUDA, and there is none here" in capsys.readouterr().err


def test_the_benchmark_compiles_as_a_run_does_at_the_size_and_batch_asked_for(monkeypatch, capsys):
    asked = []

    def watched(learner, say, pieces=None, backend=None):
        asked.append((learner.config.size, learner.config.batch_size, learner.config.batch_length, backend))
    monkeypatch.setattr(benchmark, "compile_update", watched)
    benchmark.main(["--turns", "1", "--size", "12m", "--batch-size", "2", "--batch-length", "3"])
    assert asked == [("12m", 2, 3, None)]       # None: inductor on a CPU, halved on CUDA
    assert "size 12m, 2 x 3 vectors" in capsys.readouterr().out
