"""What cannot work is refused with one sentence that names the problem and what would be right."""

import math
from dataclasses import fields, replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

from dreamer.config import OFFICIAL, SIZES, Config
from dreamer.training import envs, validate
from dreamer.training.envs import Environments, TaskError, action_spec, observation_spec
from dreamer.training.loop import Run
from dreamer.training.validate import ConfigError
from toys import tiny


def refusal(kind, function, *arguments):
    """The message of the error `kind` that function(*arguments) raises: always a single line."""
    with pytest.raises(kind) as caught:
        function(*arguments)
    text = str(caught.value)
    assert text and "\n" not in text
    return text


# ------------------------------------------------------------------ hyperparameters

@pytest.mark.parametrize("name, value, right", [
    ("steps", 0, "at least 1"), ("steps", -5, "at least 1"), ("steps", 2.5, "a whole number"), ("steps", True, "a whole"),
    ("steps", "many", "a whole number"), ("batch_size", 0, "at least 1"), ("batch_length", 1, "at least 2"),
    ("imagination_horizon", 0, "at least 1"), ("envs", 0, "1 to 16"), ("envs", 17, "1 to 16"), ("starts", -1, "0 or more"),
    ("discount_horizon", 1.0, "above 1"), ("lr", 0.0, "above 0"), ("lr", -1e-3, "above 0"), ("lr", math.nan, "finite"),
    ("lr", math.inf, "finite"), ("unimix", 1.5, "between 0 and 1"), ("lam", -0.1, "between 0 and 1"),
    ("average_rate", 0.0, "above 0 and at most 1"), ("bins", 254, "odd"), ("bins", 1, "odd"), ("hold", 0.5, "at least 1"),
    ("return_floor", 0.0, "above 0"), ("entropy_end", 3.0, "between 0 and 1"),
    ("blocks", 7, "1, 2, 4, 8"), ("blocks", 0, "at least 1"), ("capacity", 0, "at least 1"), ("seed", -1, "0 or more"),
    ("size", "2m", "1m, 12m"), ("device", "gpu", "auto, cpu, cuda, mps"), ("recipe", "paper", "course, official"),
    ("train_ratio", 0, "above 0"), ("prefill", -1, "0 or more"), ("env", "", "CartPole-v1"),
    ("resume", "yes", "True or False"),
    ("capacity", 99, "use at least"), ("final_episodes", 0, "at least 1")])
def test_impossible_hyperparameters_are_named(name, value, right):
    text = refusal(ConfigError, validate.validate, replace(Config(), **{name: value}))
    assert "--" + name.replace("_", "-") in text and right in text


def test_values_that_do_not_fit_each_other_are_named():
    text = refusal(ConfigError, validate.validate, Config(capacity=9000, prefill=10_000))
    assert "--capacity 9000" in text and "10000" in text and "--prefill" in text
    text = refusal(ConfigError, validate.validate, Config(capacity=600, envs=4, batch_size=16, batch_length=32, prefill=0))
    assert "use at least 640" in text                       # 4 environments, each with 32 + 128 rows
    validate.validate(Config(capacity=640, envs=4, batch_size=16, batch_length=32, prefill=0))


def test_a_mac_cannot_compile():
    assert "leave it out on mps" in refusal(ConfigError, validate.validate, Config(compile=True, device="mps"))
    validate.validate(Config(device="mps")), validate.validate(Config(compile=True, device="cpu"))


def test_the_smallest_capacity_is_enough_to_begin(tiny_size, tmp_path):
    for count in (1, 3):
        least = validate.smallest_capacity(tiny(envs=count))
        run = Run(tiny(envs=count, capacity=least, output=str(tmp_path / str(count)), eval_every=1000, final_episodes=1))
        run.train()
        assert run.learner.updates > 1


def test_rules_are_about_fields_that_exist_and_all_defaults_are_allowed():
    assert set(validate.RULES) <= {field.name for field in fields(Config) if field.type in (int, float)}
    for size in SIZES:
        for config in (Config(size=size), replace(Config(size=size), **OFFICIAL)):
            assert validate.validate(config) is config


def test_run_refuses_what_validate_refuses(tmp_path):
    assert "--lr" in refusal(ConfigError, Run, tiny(lr=-1.0, output=str(tmp_path / "x")))
    assert not (tmp_path / "x").exists()


def test_a_replay_buffer_beyond_all_memory_is_refused(tmp_path):
    text = refusal(ConfigError, Run, tiny(capacity=10 ** 15, output=str(tmp_path)))
    assert "--capacity 1000000000000000" in text and "memory" in text


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device, tmp_path, monkeypatch):
    monkeypatch.setattr(f"torch.{'cuda' if device == 'cuda' else 'backends.mps'}.is_available", lambda: False)
    assert f"--device {device} is not available" in refusal(ConfigError, Run, tiny(device=device, output=str(tmp_path)))


def test_blocks_must_fit_the_image_layers_if_there_are_images(tmp_path):
    changes = dict(blocks=32, stoch=4, output=str(tmp_path))
    Run(tiny(**changes))
    text = refusal(ConfigError, Run, tiny(env="toys:ToyMixed-v0", **changes))
    assert "--blocks 32 does not divide the 16 channels" in text


# ------------------------------------------------------------------ tasks

@pytest.mark.parametrize("env, text", [
    ("CartPol-v1", "Did you mean: `CartPole`?"), ("CartPole-v99", "v99"), ("nowhere/CartPole-v1", "nowhere"),
    ("no_such_module:Env-v0", "no_such_module"), ("not an id", "not an id")])
def test_unknown_tasks_are_named(env, text):
    message = refusal(TaskError, envs.make, env)
    assert env in message and text in message


def test_a_missing_package_is_named(monkeypatch):
    def make(name):
        raise gym.error.DependencyNotInstalled("Box2D is not installed,\nyou can install it")
    monkeypatch.setattr(gym, "make", make)
    message = refusal(TaskError, envs.make, "LunarLander-v3")
    assert "LunarLander-v3" in message and "Box2D is not installed" in message and "gymnasium[box2d]" in message
    def other(name):
        raise gym.error.DependencyNotInstalled("opencv (cv2) is not installed")
    monkeypatch.setattr(gym, "make", other)
    assert "opencv" in (message := refusal(TaskError, envs.make, "Mine-v0")) and "box2d" not in message


IMAGE = Box(0, 255, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("space, text", [
    (Text(5), "Box of numbers"), (Tuple([Discrete(2)]), "flat Dict"), (Dict({"a": Dict({"b": Discrete(2)})}), "'a'"),
    (Box(0, 1, (3, 4)), "FlattenObservation"), (Dict({0: Box(0, 1)}), "keys [0]"), (Dict({"": Box(0, 1)}), "keys ['']"),
    (Dict({0: Box(0, 1), "a": Box(0, 1)}), "not empty"), (Dict({}), "empty"), (Box(0, 255, (96, 96, 3), np.uint8), "(96, 96, 3)"),
    (Box(0, 255, (3, 64, 64), np.uint8), "(64, 64, channels)"), (Box(0, 1, (64, 64, 3)), "float32; supported is uint8"),
    (Dict({"eye": Box(0, 255, (32, 32, 1), np.uint8)}), "'eye'")])
def test_unsupported_observations_say_what_is_supported(space, text):
    message = refusal(TaskError, observation_spec, space)
    assert text in message and "support" in message


@pytest.mark.parametrize("space, text", [
    (MultiDiscrete([2, 2]), "supported are"), (MultiBinary(2), "supported are"), (Box(-1, 1, (2, 2)), "supported are"),
    (Box(0, 9, (2,), np.int64), "supported are"), (Box(-np.inf, np.inf, (2,)), "finite bounds"),
    (Box(np.float32([0, -1]), np.float32([0, 1])), "no choice"), (Box(-1, 1, (0,)), "no choice")])
def test_unsupported_actions_say_what_is_supported(space, text):
    assert text in refusal(TaskError, action_spec, space)


def test_a_bound_that_means_none_counts_as_none():
    most = np.finfo(np.float32).max
    space = Dict({"a": Box(-most, most, (2,)), "b": Box(-np.inf, 3, (1,)), "c": Box(-4, 3, (1,)), "d": Box(0, 1e10, (1,))})
    assert envs.declared_bounds(space).tolist() == [0, 0, 0, 4, 0]


def test_supported_spaces_are_understood():
    spec = observation_spec(Dict({"z": Box(0, 1, (2,)), "a": Discrete(3), "m": MultiBinary(2), "i": IMAGE,
                                  "n": Box(-1, 1, (), np.float64), "k": MultiDiscrete([4, 5])}))
    assert spec.vector == 3 and spec.symbols == (3, 4, 5, 2, 2) and spec.image == 3
    assert action_spec(Discrete(4)) == (4, True) and action_spec(Box(-2, 2, (3,))) == (3, False)


def play(environments, steps=40):
    environments.reset()
    for _ in range(steps):
        last = environments.step(np.eye(3, dtype=np.float32)[[0, 1]])[3]
        if last.any():
            environments.reset(last)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["observation", "reward"])
def test_numbers_that_are_not_finite_name_the_step(field, value):
    name = f"ToyOdd{field}{value}-v0"
    gym.register(name, "toys:Odd", kwargs={"field": field, "value": value}, disable_env_checker=True)
    message = refusal(TaskError, play, Environments(name, 2, seed=0))
    assert f"the {field} is not finite at environment step 10" in message      # fifth step of both environments


def test_a_symbol_outside_its_space_names_the_step():
    message = refusal(TaskError, play, Environments("toys:ToyWrongSymbol-v0", 2, seed=0))
    assert "outside its space at environment step 2" in message


def test_an_observation_that_is_not_as_declared_is_named():
    gym.register("ToyOddShape-v0", "toys:Odd", kwargs={"field": "shape"}, disable_env_checker=True)
    assert "has shape (3,), but the environment declares (4,)" in refusal(TaskError, Environments, "ToyOddShape-v0", 1, 0)


@pytest.mark.parametrize("value", [3, np.float64(2.5), np.int32(4), True])
def test_rewards_of_any_numeric_type_are_fine(value):
    name = f"ToyOddReward{type(value).__name__}-v0"
    gym.register(name, "toys:Odd", kwargs={"field": "reward", "value": value}, disable_env_checker=True)
    play(Environments(name, 2, seed=0))


# ------------------------------------------------------------------ the folder

def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        Run(tiny(output=str(tmp_path / "file" / "run")))
