"""Whatever the configuration holds: a run that is possible, or one clear line; never another error."""

import decimal
import io
import math
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dreamer.config import OFFICIAL, SIZES, Config
from dreamer.training import validate
from dreamer.training.cli import guarded, run_lesson
from dreamer.training.flags import parse_flags
from dreamer.training.loop import Run
from dreamer.training.records import DivergenceError
from dreamer.training.validate import ConfigError, flag
from faults import flags, random_only
from toys import TINY, tiny

FIELDS = {field.name: field.type for field in fields(Config)}
always = dict(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


def one_line(error):
    """Every refusal: a sentence about a flag, not longer than a few lines of a terminal."""
    text = " ".join(str(error).split())
    assert 10 < len(text) < 500 and "--" in text, text
    text.encode("utf-8", "backslashreplace")
    return text


# ------------------------------------------------------------------ any values

numbers = st.one_of(st.integers(), st.integers(-3, 20), st.floats(), st.sampled_from([
    0, -1, 2 ** 31, 2 ** 32 - 1, 2 ** 63, 2 ** 64, 10 ** 15, 10 ** 15 + 1, 10 ** 400, -10 ** 400, 1e308, 5e-324,
    -0.0, math.nan, math.inf, -math.inf]))
texts = st.one_of(st.text(max_size=20), st.sampled_from([
    "", " ", "\0", "a\0b", "\n", "\ud800", "\udcff", "日本", "\x1b[31m", "x" * 10_000, "..", "/", "C:\\", "-", "--", "=", "None",
    "{1,2}", "%s", "1_000", "٣", "1e400", "0x10", "9" * 5000, "nan", "CartPole-v1", "toys:ToyCounter-v0", ":x", ".:x", "a:b:c"]))
others = st.one_of(st.none(), st.booleans(), st.binary(max_size=3), st.lists(st.integers(), max_size=2), st.just({}), st.just({1, 2}),
                   st.just(decimal.Decimal("1")), st.just(1j), st.just(np.float32(1)), st.just(np.int64(1)), st.just(np.float64(0.5)),
                   st.just(np.array(["1m", "12m"])), st.just(np.array([])), st.just(Config), st.just(len), st.just(range(10 ** 9)))


@settings(max_examples=250, **always)
@given(st.dictionaries(st.sampled_from(list(FIELDS)), st.one_of(numbers, texts, others), min_size=1, max_size=3))
@example({"lr": 10 ** 400})
@example({"size": np.array(["1m", "12m"])})
def test_any_value_of_any_field_is_valid_or_refused(changes):
    config = replace(Config(), **changes)
    try:
        assert validate.validate(config) is config
    except ConfigError as error:
        one_line(error)
        assert any(flag(name) in str(error) for name in changes) or "blocks" in str(error) or "capacity" in str(error)


@pytest.mark.parametrize("name", ["steps", "lr", "size", "env", "resume", "bins"])
@pytest.mark.parametrize("value", [10 ** 5000, -10 ** 5000], ids=["positive", "negative"])
def test_numbers_that_python_does_not_write_out_are_refused(name, value):
    with pytest.raises(ConfigError) as caught:
        validate.validate(replace(Config(), **{name: value}))
    assert flag(name) in one_line(caught.value) and "thousands of digits" in str(caught.value)


# ------------------------------------------------------------------ any command line

names = st.one_of(st.sampled_from([flag(name) for name in FIELDS]), st.sampled_from(list(FIELDS)).map(lambda n: "--" + n),
                  st.sampled_from(["--no-resume", "--no-steps", "--no_async-envs", "--help=3", "-s", "--", "-", "--stepss"]))
words = st.one_of(numbers.map(str), texts)
argv = st.lists(st.one_of(names, words, st.tuples(names, words).map("=".join)), max_size=6)


@settings(max_examples=150, **always)
@given(argv)
@example(["--output", "a\0b"])
@example(["--env", "\ud800"])
@example(["--steps", "9" * 5000])
@example(["--lr=-1e-3"])
@example(["--lr", "-1e-3"])
@example(["--env", "--"])
@example(["--env=-h"])
@example(["--env", "-h"])
def test_any_command_line_is_read_or_refused(argv):
    try:
        config = parse_flags(Config(), argv)
    except ConfigError as error:
        text = " ".join(str(error).split())
        assert 10 < len(text) < 500, text
        return
    except SystemExit as stop:          # --help
        assert stop.code == 0 and any(word in ("-h", "--help") for word in argv)
        return
    assert validate.validate(config) is config


@pytest.mark.parametrize("argv, text", [
    (["--output", "a\0b"], "--output holds a character that no name can have: 'a\\x00b'"),
    (["--env", "\ud800"], "--env holds a character that no name can have: '\\ud800'"),
    (["--steps", "9" * 5000], "--steps must be a whole number, not 9999"), (["--steps", "9" * 4000], "--steps must be at most"),
    (["--lr", "1e400"], "--lr must be a finite number"), (["--seed", str(2 ** 32)], "--seed must be at most 4294967295"),
    (["--threads", "100000"], "--threads must be at most 1024"), (["--final-episodes", "1000000"], "at most 10000"),
    (["--" + "x" * 10_000], "unknown flag --xxxx"), (["--capacity", str(10 ** 15)], "more memory than this machine has")])
def test_refusals_are_short_and_have_exit_code_2(argv, text, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_lesson(Config(), None, argv) == 2
    out, err = capfd.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and text in err and len(err) < 300 and not out


def test_a_terminal_without_the_letters_of_a_name_stops_nothing(tmp_path, monkeypatch, tiny_size):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DREAMER_QUIET")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert run_lesson(Config(), None, flags(random_only(output="日本"))) == 0 and (tmp_path / "日本" / "summary.json").exists()


def test_a_log_in_a_file_can_be_followed_line_by_line(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    seen = []

    def work(argv, runs):
        print("first")
        seen.append(raw.getvalue().split())
    assert guarded(work, []) == 0 and seen == [[b"first"]]


def test_more_memory_than_there_is_gives_one_line(capfd):
    def work(argv, runs):
        torch.empty(10 ** 15)
    assert guarded(work, []) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: this machine has not enough memory") and error.count("\n") == 1
    with pytest.raises(RuntimeError, match="size of tensor"):           # another error is one of ours, and is shown
        guarded(lambda argv, runs: torch.zeros(2) + torch.zeros(3), [])


# ------------------------------------------------------------------ any run

def pick(*values):
    return st.sampled_from(values)


@st.composite
def small_configs(draw):
    """Configs whose runs take a moment, at the edges of what is allowed, or just beyond."""
    config = Config(
        env=draw(pick("toys:ToyCounter-v0", "toys:ToyContinuous-v0", "toys:ToySymbols-v0", "toys:ToyMixed-v0")),
        steps=draw(st.integers(1, 40)), size=draw(st.sampled_from(list(SIZES))), envs=draw(st.integers(1, 3)),
        seed=draw(pick(0, 1, 2 ** 31, 2 ** 32 - 1)), output=draw(pick("", "日本 run", "a'b\"c", "x/y/../z")), resume=draw(st.booleans()),
        recipe=draw(pick("course", "official")), device="cpu", threads=draw(pick(0, 1)), env_timeout=draw(pick(0, 0.5, 1e6)),
        log_every=draw(pick(1, 7, 10 ** 15)), eval_every=draw(pick(10, 10 ** 15)), eval_episodes=1, final_episodes=draw(pick(1, 2)),
        checkpoint_every=draw(pick(1, 5, 10 ** 15)), batch_size=draw(pick(1, 2, 5)), batch_length=draw(pick(1, 2, 2, 9)),
        cold_starts=draw(pick(0, 0.5, 1)), starts=draw(pick(0, 1, 7, 10 ** 15)), train_ratio=draw(pick(1e-300, 0.5, 1, 9)),
        prefill=draw(pick(0, 1, 10, 60)), hold=draw(pick(1, 4.5, 1e15)), capacity=draw(pick(60, 90, 200)),
        standardize=draw(st.booleans()), stoch=draw(pick(1, 2, 5)), blocks=draw(pick(1, 2, 8, 64, 3)), bins=draw(pick(3, 5, 255)),
        unimix=draw(pick(0, 0.01, 1)), free_nats=draw(pick(0, 1.0, 1e15)), beta_rec=draw(pick(0, 1.0, 1e15)), beta_dyn=draw(pick(0, 1.0)),
        beta_rep=draw(pick(0, 0.1, 1e15)), imagination_horizon=draw(pick(1, 2, 5)), discount_horizon=draw(pick(1 + 1e-12, 2, 333.0, 1e15)),
        lam=draw(pick(0, 0.95, 1)), entropy=draw(pick(0, 3e-3, 1e15)), beta_repval=draw(pick(0, 0.3, 1e15)), slow_rate=draw(pick(1e-300, 0.02, 1)),
        slow_regulariser=draw(pick(0, 1.0, 1e15)), return_rate=draw(pick(1e-300, 0.01, 1)), lr=draw(pick(1e-300, 1e-3, 1.0, 1e15)),
        entropy_end=draw(pick(0, 0.02, 1)), return_floor=draw(pick(1e-300, 0.3, 1.0, 1e15)), late_hold=draw(pick(0, 1, 30, 10 ** 15)),
        beta_rew=draw(pick(0, 1.0, 1e15)),
        lr_end=draw(pick(0, 0.1, 1)), warmup=draw(pick(0, 1, 10 ** 15)), agc=draw(pick(1e-300, 0.3, 1e15)), average_rate=draw(pick(1e-300, 0.005, 1)))
    return replace(config, **{k: v for k, v in OFFICIAL.items() if draw(st.booleans()) and k not in ("train_ratio", "capacity", "batch_length")})


@pytest.fixture
def tiny_sizes(monkeypatch, tmp_path):
    """Every size is a very small one."""
    for size in SIZES:
        monkeypatch.setitem(SIZES, size, TINY)
    monkeypatch.chdir(tmp_path)


def run_of(config, folder):
    """A Run in a folder of its own, or None if it was refused in one line, by the same line at both ends."""
    config = replace(config, output=str(folder / config.output) if config.output else str(folder))
    try:
        return Run(config)
    except ConfigError as error:
        one_line(error)


@settings(max_examples=30, **always)
@given(small_configs())
def test_any_valid_configuration_makes_a_run(tiny_sizes, tmp_path_factory, config):
    run = run_of(config, tmp_path_factory.mktemp("any"))
    if run:
        run.envs.close()


def trains(config, folder):
    run = run_of(config, folder)
    if run is None:
        return
    try:
        summary = run.train()
    except DivergenceError as error:
        one_line(error)
        return
    assert summary["steps"] == run.step >= config.steps


@settings(max_examples=6, **always)
@given(small_configs())
@example(tiny(starts=1, imagination_horizon=1, steps=34, eval_every=1000, final_episodes=1))
@example(tiny(starts=1, imagination_horizon=2, steps=34, eval_every=1000, final_episodes=1, batch_length=2, capacity=40))
def test_some_of_them_train(tiny_sizes, tmp_path_factory, config):
    trains(config, tmp_path_factory.mktemp("some"))


@pytest.mark.slow
@settings(max_examples=150, **always)
@given(small_configs())
def test_many_of_them_train(tiny_sizes, tmp_path_factory, config):
    trains(config, tmp_path_factory.mktemp("many"))


@pytest.mark.slow
@settings(max_examples=2000, **always)
@given(argv)
def test_thousands_of_command_lines_are_read_or_refused(argv):
    test_any_command_line_is_read_or_refused.hypothesis.inner_test(argv)
