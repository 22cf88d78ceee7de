"""Hyperparameters in YAML files: what is written can be read, what is wrong is refused in one sentence, configs/ agrees."""

import shlex
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer.__main__ import main
from dreamer.config import OFFICIAL, Config
from dreamer.tools import configs, yaml_config
from dreamer.training import experiments


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printed(capsys, flags):
    """What --print-config says, as values."""
    assert main(["train", *shlex.split(flags), "--print-config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


# ------------------------------------------------------------------ values

def test_all_hyperparameters_are_printed_in_their_order_and_nothing_is_trained(capsys, tmp_path):
    values = printed(capsys, "--lr 3e-5 --env Acrobot-v1")
    assert list(values) == [field.name for field in fields(Config)]
    assert values == asdict(Config(lr=3e-5, env="Acrobot-v1")) and not list(tmp_path.iterdir())


def test_flags_override_the_file_and_the_file_the_defaults(capsys):
    Path("mine.yaml").write_text("env: Pendulum-v1\nlr: 1e-4\nsteps: 1_500\nresume: no\n")
    values = printed(capsys, "--config mine.yaml --lr 5e-3 --batch-size 3")
    assert values == asdict(Config(env="Pendulum-v1", lr=5e-3, steps=1500, resume=False, batch_size=3))
    assert printed(capsys, "--config mine.yaml")["lr"] == 1e-4      # which YAML itself takes for a text


def test_what_is_printed_can_be_loaded_again(capsys):
    values = printed(capsys, "--recipe official --env Acrobot-v1 --lr 0.25 --no-resume --output here")
    Path("all.yaml").write_text(yaml.safe_dump(values))
    assert printed(capsys, "--config all.yaml") == values
    assert printed(capsys, "--config all.yaml --recipe official") == values         # it is of that recipe already


def test_the_recipe_of_a_file_is_the_ground_for_its_other_values(capsys):
    Path("mine.yaml").write_text("recipe: official\nlr: 0.5\n")
    assert printed(capsys, "--config mine.yaml") == asdict(replace(Config(), **{**OFFICIAL, "lr": 0.5}))
    assert printed(capsys, "--config mine.yaml --recipe course") == asdict(Config())
    Path("all.yaml").write_text(yaml_config.dump(Config(steps=77)))
    assert printed(capsys, "--config all.yaml --recipe official") == asdict(replace(Config(steps=77), **OFFICIAL))


VALUES = {int: st.integers(-10**9, 10**9), float: st.floats(allow_nan=False, allow_infinity=False), bool: st.booleans(),
          str: st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)}


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries({}, optional={f.name: VALUES[f.type] for f in fields(Config) if f.type in VALUES}))
def test_every_configuration_survives_being_written_and_read(tmp_path_factory, values):
    path, config = tmp_path_factory.mktemp("any") / "any.yaml", replace(Config(), **values)
    yaml_config.save(path, config, "two lines\nof comment: x")
    assert yaml_config.complete(yaml_config.read(path)) == config


# ------------------------------------------------------------------ what is wrong

@pytest.mark.parametrize("text, wanted", [
    ("step: 3", "mine.yaml: unknown key step; did you mean steps?"), ("batch-size: 3", "did you mean batch_size?"),
    ("qqq: 1", "unknown key qqq (python -m"), ("steps: many", "mine.yaml: steps must be a whole number, not 'many'"),
    ("steps: 3.5", "steps must be a whole number, not 3.5"), ("steps: true", "steps must be a whole number"),
    ("steps:", "steps must be a whole number, not None"), ("steps: [1, 2]", "steps must be a single value, not a list"),
    ("lr: fast", "lr must be a number, not 'fast'"), ("lr: .nan", "lr must be a finite number"),
    ("lr: 1" + "0" * 400, "lr must be a finite number"), ("env: 3", "env must be a text"),
    ("size: 2m", "size must be one of 1m"), ("recipe: offical", "did you mean official?"), ("resume: 1", "resume must be True"),
    ("- steps", "must hold lines such as 'steps: 8000', not a list"), ("", "not nothing"), ("steps", "not a str"),
    ("steps: [", "mine.yaml is no YAML"), ("a: *b", "is no YAML"), ("x: 2020-99-99", "is no YAML"), ("\0", "is no YAML"),
    ("!!python/object/apply:os.system ['touch broken']", "is no YAML"), ("steps: 0", "--steps must be at least 1")])
def test_a_file_that_is_wrong_is_refused_in_one_sentence(text, wanted, capsys):
    Path("mine.yaml").write_text(text)
    assert main(["train", "--config", "mine.yaml"]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1 and len(err) < 500 and wanted in err
    assert [file.name for file in Path().iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("path, make, wanted", [
    ("none.yaml", lambda p: None, "there is no file none.yaml; in configs/ there are 01-CartPole-v1.yaml"),
    ("folder", lambda p: p.mkdir(), "folder cannot be read"), ("latin", lambda p: p.write_bytes(b"env: \xff\xfe"), "UTF-8")])
def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(path, make, wanted, capsys):
    make(Path(path))
    assert main(["train", "--config", path]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and wanted in err


# ------------------------------------------------------------------ configs/

def test_the_files_of_the_lessons_are_what_the_lessons_say():
    there = {file.name: file.read_text(encoding="utf-8") for file in configs.FOLDER.glob("*.yaml")}
    assert there == configs.files(), "lessons or hyperparameters have changed: run python -m dreamer.tools.configs"


def test_each_file_gives_the_configuration_that_the_lesson_trains_with(capsys):
    for name in experiments.SEEDS:
        lesson = experiments.load(name)
        for task in lesson.tasks:
            wanted = experiments.Job(lesson.of(task), task, 0, Path(), []).config       # what train_all.py runs
            file = configs.FOLDER / f"{name[:2]}-{task}.yaml"
            assert printed(capsys, f"--config {shlex.quote(str(file))}") == asdict(wanted)
            assert ("--mode world-model" in file.read_text(encoding="utf-8")) != lesson.acts
