"""The benchmark runs and says what it promises; no time is judged here."""

import json

from benchmarks import throughput
from benchmarks.products import Product, Recipe, count, gigaflop, layer
from dreamer.config import OFFICIAL, Config


def test_products_of_the_official_recipe_are_29_gigaflop():
    assert 28.4 < gigaflop(count(Recipe(Config(**OFFICIAL)))) < 29.2


def test_a_trained_layer_costs_three_products_and_one_on_data_two():
    assert layer(5, 3, 2) == {Product("forward", 1, 5, 3, 2): 1, Product("input", 1, 5, 2, 3): 1,
                              Product("weight", 1, 3, 5, 2): 1}
    assert sum(layer(5, 3, 2, data=True).values()) == 2 and sum(layer(5, 3, 2, train=False).values()) == 1


def test_quick_benchmark_says_everything(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    throughput.main(["--quick", "--tiny", "--threads", "1", "--json", str(path)])
    found, said = json.loads(path.read_text()), capsys.readouterr().out
    assert set(found) == {"threads", "torch", "recipes", "acting", "sweep"}
    for name in ("official", "course"):
        recipe = found["recipes"][name]
        assert set(recipe) == {"update_ms", "floor_ms", "ratio", "gflop", "steps_per_second", "parts_ms", "threads"}
        assert len(recipe["parts_ms"]) == 7 and set(recipe["threads"]) == {"one_ms", "two_ms", "speedup"}
        assert f"{name} recipe" in said
    assert set(found["acting"]) == {"act_ms", "update_ms", "ratio"}
    assert set(found["sweep"]) == {"batch_size", "batch_length", "size"}
    assert "update / floor" in said and "acting in one environment" in said
