"""The benchmark runs and says what it promises; no time is judged here."""

import json
import sys
from types import SimpleNamespace

import torch

from benchmarks import compiled, pixels, throughput
from benchmarks.products import Product, Recipe, count, gigaflop, layer
from dreamer.config import OFFICIAL, Config


def test_products_of_the_official_recipe_are_29_gigaflop():
    assert 28.4 < gigaflop(count(Recipe(Config(**OFFICIAL)))) < 29.2


def test_a_trained_layer_costs_three_products_and_one_on_data_two():
    assert layer(5, 3, 2) == {Product("forward", 1, 5, 3, 2): 1, Product("input", 1, 5, 2, 3): 1,
                              Product("weight", 1, 3, 5, 2): 1}
    assert sum(layer(5, 3, 2, data=True).values()) == 2 and sum(layer(5, 3, 2, train=False).values()) == 1


def test_the_convolutions_alone_are_those_of_the_networks(monkeypatch):
    """Shapes of what an update convolves, in order, against the benchmark's list."""
    config, seen, conv2d = Config(batch_size=2, batch_length=3), [], torch.nn.functional.conv2d

    def noted(x, weight, *arguments, **options):
        seen.append((weight.shape[1], weight.shape[0], weight.shape[-1], x.shape[-1], x.requires_grad))
        assert len(x) == 6 and x.is_contiguous(memory_format=torch.channels_last)
        return conv2d(x, weight, *arguments, **options)
    learner = pixels.Learner(pixels.ObservationSpec(image=3), pixels.ACTIONS, False, config)
    work = pixels.looking_and_painting(learner, *pixels.batch_of(config, "cpu"))
    monkeypatch.setattr(torch.nn.functional, "conv2d", noted)
    work()
    assert seen == pixels.shapes(config)


def test_on_a_gpu_each_way_is_measured_beside_eager_in_both_sizes(monkeypatch):
    said, prepared = [], []
    monkeypatch.setattr(compiled, "measure", lambda *a: prepared.append(a) or {"plain_ms": 4.0, "fast_ms": 2.0, "ratio": 2.0, "first_s": 1.0})
    found = throughput.on_a_gpu(Config(), ("1m", "12m"), 3, said.append, "cpu", "eager")
    assert [(a[0].size, a[0].batch_size, a[0].batch_length, a[1:4]) for a in prepared] == [
        (size, 16, length, (True, 3, "cpu")) for size, length in (("1m", 16), ("12m", 64)) for _ in range(2)]
    assert {name: list(ways) for name, ways in found.items()} == {name: ["recorded", "compiled"] for name in ("1m", "12m")}
    assert [text.split(": one update 4 ms, ")[1].split()[0] for text in said] == ["recorded", "compiled"] * 2
    learner = SimpleNamespace()
    made = []
    monkeypatch.setattr(compiled, "compile_update", lambda learner, say, backend: made.append(("compile", say, backend)))
    monkeypatch.setattr(compiled, "record_gradient", lambda learner, say: made.append(("record", say)))
    prepared[1][4](learner)                                 # what was to be measured second: it may fail, and the rest goes on
    for device, recorded in (("cpu", False), ("cuda", False), ("cuda", True)):
        compiled.faster(device, recorded, "eager")(learner)
        made.append("/")
    assert made == [("compile", said.append, "eager"), ("compile", sys.exit, "eager"), "/", ("compile", sys.exit, "eager"), ("record", sys.exit), "/",
                    ("record", sys.exit), "/"]


def test_quick_benchmark_says_everything(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    throughput.main(["--quick", "--tiny", "--threads", "1", "--json", str(path)])
    found, said = json.loads(path.read_text()), capsys.readouterr().out
    assert set(found) - {"on a GPU"} == {"threads", "torch", "recipes", "acting", "pixels", "sweep"}
    assert ("on a GPU" in found) == torch.cuda.is_available()
    for name in ("official", "course"):
        recipe = found["recipes"][name]
        assert set(recipe) == {"update_ms", "floor_ms", "ratio", "gflop", "steps_per_second", "parts_ms", "threads"}
        assert len(recipe["parts_ms"]) == 7 and set(recipe["threads"]) == {"one_ms", "two_ms", "speedup"}
        assert f"{name} recipe" in said
    assert set(found["acting"]) == {"act_ms", "update_ms", "ratio"}
    assert set(found["sweep"]) == {"batch_size", "batch_length", "size"}
    assert set(found["pixels"]["cpu"]) == {"update_ms", "networks_ms", "convolutions_ms", "ratio", "share"}
    assert 0 < found["pixels"]["cpu"]["share"] < 2 and "with pictures, cpu: one update" in said
    assert "update / floor" in said and "acting in one environment" in said
