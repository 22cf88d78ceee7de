"""On CUDA the gradient is recorded and played back. Without a GPU a stand-in records by calling again what it was given,
on the tensors that it was given: that inputs, gradients and metrics go where they should can be tested anywhere.
"""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from dreamer.learner import Learner
from dreamer.tools.ranks import connect_learner
from dreamer.training import loop, recorded
from dreamer.training.compiled import compile_update, steps
from dreamer.training.loop import Run
from dreamer.training.recorded import WARM, each, record_gradient
from dreamer.world_model.encoder import ObservationSpec
from test_compiled import SPEC, a_batch
from toys import tiny

pytestmark = pytest.mark.usefixtures("tiny_size")
ROUNDS = 6


def stand_in(monkeypatch, fail=None):
    """Put a stand-in of torch.cuda into recorded.py. Returns the list of what it has played back."""
    played = []

    class Graph:
        def register_generator_state(self, generator):
            self.generator = generator

        def replay(self):
            """Compute again, and write the results where those of the recording stand, as kernels do."""
            for parameter in self.learner.optimizer.parameters:
                parameter.grad = None
            found = each(torch.Tensor.detach, self.learner.__class__.gradient(self.learner, *self.inputs))
            each(lambda old, new: old.copy_(new), self.results, found)
            for parameter, gradient in zip(self.learner.optimizer.parameters, self.gradients):
                if gradient is not None:
                    gradient.copy_(parameter.grad)
                parameter.grad = None
            played.append(self)

    @contextmanager
    def recording(graph, stream):
        """What is recorded is not computed: its draws and its changes of buffers are taken back."""
        learner = graph.learner
        assert all(p.grad is None for p in learner.optimizer.parameters)        # else they would be added to
        assert graph.generator is learner.draw.generator
        state, buffers = graph.generator.get_state(), [b.clone() for b in learner.agent.buffers()]
        yield
        graph.generator.set_state(state)
        for buffer, before in zip(learner.agent.buffers(), buffers):
            buffer.copy_(before)
        if fail:
            raise fail

    class Recording(recorded.Recording):
        def __init__(self, learner, stream, inputs):
            Graph.learner = learner
            super().__init__(learner, stream, inputs)
            Graph.inputs, Graph.results, Graph.gradients = self.inputs, self.results, [
                None if g is None else g.clone() for g in self.gradients]
            self.gradients = Graph.gradients
    stream = lambda: SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(recorded, "Recording", Recording)
    for name, what in {"Stream": stream, "current_stream": stream, "stream": lambda s: nullcontext(), "CUDAGraph": Graph,
                       "graph": recording, "synchronize": lambda: None}.items():
        monkeypatch.setattr(torch.cuda, name, what)
    return played


def history(learner, rounds=ROUNDS):
    """Metrics and latents of some updates, each on a batch of its own, and the parameters at the end."""
    found = []
    for i in range(rounds):
        batch, (deter, stoch) = a_batch(learner.config)
        batch = {**batch, "reward": batch["reward"] + i}
        metrics, (deter, stoch) = learner.update(batch, (deter + i / 10, stoch))
        found.append((metrics, deter.clone(), stoch))
    return found, [p.detach().clone() for p in learner.agent.parameters()]


def plain():
    return Learner(SPEC, 3, True, tiny())


def assert_the_same(one, other):
    (one, parameters), (other, others) = one, other
    for (metrics, *latents), (again, *more) in zip(one, other):
        assert {k: float(v) for k, v in metrics.items()} == {k: float(v) for k, v in again.items()}
        assert all(torch.equal(x, y) for x, y in zip(latents, more))
    assert all(torch.equal(x, y) for x, y in zip(parameters, others))


def test_updates_that_are_played_back_are_the_same_updates(monkeypatch):
    played, learner = stand_in(monkeypatch), plain()
    record_gradient(learner, pytest.fail)
    assert_the_same(history(learner), history(plain()))
    assert len(played) == ROUNDS - WARM and len(set(map(id, played))) == 1      # one recording
    assert learner.updates == ROUNDS


def test_where_it_cannot_be_recorded_one_line_says_so_and_the_run_goes_on_as_if_it_had_not_been_tried(monkeypatch):
    played, learner, said = stand_in(monkeypatch, RuntimeError("operation not permitted\nwhen stream is capturing")), plain(), []
    record_gradient(learner, said.append)
    assert_the_same(history(learner), history(plain()))
    assert not played and len(said) == 1 and "\n" not in said[0]
    assert "cannot be recorded" in said[0] and "not permitted when stream is capturing" in said[0]


def test_where_steps_are_compiled_and_cannot_be_recorded_they_are_not_compiled_any_more(monkeypatch):
    """A compiled piece draws from the device's own generator, which on a card still thinks that it is recorded."""
    played, learner, said = stand_in(monkeypatch, RuntimeError("operation not permitted")), plain(), []
    compile_update(learner, said.append, steps, backend="eager")
    record_gradient(learner, said.append)
    found, _ = history(learner, rounds=WARM + 1)
    assert len(said) == 1 and said[0].endswith("going on without a recording and without --compile") and not played
    assert not any(name in module.__dict__ for module, name in steps(learner.agent))
    before = torch.default_generator.get_state()
    history(learner, rounds=1)
    assert learner.draw.generator is not torch.default_generator and torch.equal(before, torch.default_generator.get_state())


def test_steps_that_are_compiled_and_recorded_are_the_same_updates(monkeypatch):
    played, learner, alike = stand_in(monkeypatch), plain(), plain()
    for one in (learner, alike):
        compile_update(one, pytest.fail, steps, backend="eager")
        if one is learner:
            record_gradient(one, pytest.fail)
            found = history(one)
        else:
            assert_the_same(found, history(one))
    assert len(played) == ROUNDS - WARM


def test_only_a_run_on_cuda_is_recorded_compiled_or_not(monkeypatch, tmp_path):
    recorded_for, compiled_for = [], []
    monkeypatch.setattr(loop, "record_gradient", lambda learner, say: recorded_for.append(learner))
    monkeypatch.setattr(loop, "compile_update", lambda learner, say: compiled_for.append(learner))
    for device, compiled in (("cpu", False), ("cpu", True), ("cuda", False), ("cuda", True)):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "pick_device", lambda name: device)
            patch.setattr(loop, "Learner", lambda *args: plain())           # there may be no GPU to put it on
            Run(tiny(output=str(tmp_path / f"{device}{compiled}"), compile=compiled)).envs.close()
        assert (len(recorded_for), len(compiled_for)) == {
            ("cpu", False): (0, 0), ("cpu", True): (0, 1), ("cuda", False): (1, 1), ("cuda", True): (2, 2)}[device, compiled]


def test_ranks_that_share_their_updates_do_not_record_them(monkeypatch):
    """What they tell each other in mid-update would be told once, at the recording."""
    played, learner = stand_in(monkeypatch), plain()
    record_gradient(learner, pytest.fail)
    connect_learner(learner)
    batch, state = a_batch(learner.config)
    learner.agent.return_norm.update = lambda returns: told.append(1) or learner.agent.return_norm.scale
    told = []
    for _ in range(WARM + 2):
        learner.gradient(batch, state, torch.tensor(3e-3))
    assert len(told) == WARM + 2 and not played


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("spec", [ObservationSpec(vector=4), ObservationSpec(image=3)], ids=["vector", "image"])
def test_on_cuda_the_numbers_are_those_of_updates_that_are_not_recorded(spec):
    from benchmarks.pixels import batch_of
    one, other = (Learner(spec, 6, False, tiny(), "cuda") for _ in range(2))
    record_gradient(other, pytest.fail)
    for _ in range(ROUNDS):
        batch, state = batch_of(one.config, "cuda")
        if spec.vector:
            batch["obs"] = {"vector": torch.randn(*batch["reward"].shape, 4, device="cuda")}
        one.update(batch, state), other.update(batch, state)
        for mine, theirs in zip(one.agent.parameters(), other.agent.parameters()):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert torch.equal(one.draw.generator.get_state(), other.draw.generator.get_state())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("spec", [ObservationSpec(vector=4), ObservationSpec(image=3)], ids=["vector", "image"])
def test_on_cuda_compiled_steps_are_recorded_and_learn_about_the_same(spec):
    from benchmarks.pixels import batch_of
    one, other = (Learner(spec, 6, False, tiny(), "cuda") for _ in range(2))
    compile_update(other, pytest.fail)
    record_gradient(other, pytest.fail)
    for _ in range(ROUNDS):
        batch, state = batch_of(one.config, "cuda")
        if spec.vector:
            batch["obs"] = {"vector": torch.randn(*batch["reward"].shape, 4, device="cuda")}
        plain, fast = one.update(batch, state)[0], other.update(batch, state)[0]
    assert float(fast["loss_rec"]) == pytest.approx(float(plain["loss_rec"]), rel=0.1)
    assert hasattr(other.gradient, "graph")
