"""Agents are found, shipped small, and loaded as they were; the world model can be trained alone."""

import json
from pathlib import Path

import pytest
import torch
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from dreamer.distributions import Draw
from dreamer.training import checkpoint, paths
from dreamer.training.loop import Run
from dreamer.training.offline import train_world_model
from dreamer.training.shipping import find_agent, load_agent, ship, shipped, shipped_model
from toys import tiny


@pytest.fixture(autouse=True)
def elsewhere(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def acts(agent):
    """What an agent does in one fixed situation, with fixed draws."""
    draw, count = Draw(torch.Generator().manual_seed(5)), 6
    obs = {"vector": torch.linspace(-2, 9, count * 4).view(count, 4)}
    action, (deter, _) = agent.act(obs, agent.world_model.rssm.initial(count), torch.zeros(count, 3),
                                   torch.ones(count, dtype=torch.bool), draw)
    return action, deter


@pytest.fixture
def run():
    run = Run(tiny())
    run.train()
    return run


def test_the_agent_of_a_run_is_the_averaged_one(run):
    agent, config = load_agent(run.checkpoint)
    assert config == run.config
    for mine, theirs in zip(acts(agent), acts(run.learner.average)):
        assert torch.equal(mine, theirs)


def test_a_shipped_agent_is_smaller_acts_alike_and_names_no_path(run):
    target = shipped(run.config.env)
    ship(run.checkpoint, target)
    agent, config = load_agent(target)
    assert config.output == "" and config.lr == run.config.lr
    assert target.stat().st_size < run.checkpoint.stat().st_size / 3
    assert torch.allclose(acts(agent)[1], acts(run.learner.average)[1], atol=0.01)


def test_a_run_goes_before_what_is_shipped(run):
    env_id = run.config.env
    ship(run.checkpoint, shipped(env_id))
    assert find_agent(env_id)[2] == paths.run_folder(env_id, 0) / "checkpoint.pt"
    assert find_agent(env_id, seed=7)[2] == shipped(env_id)
    before = checkpoint.previous(run.checkpoint)
    run.checkpoint.rename(before)               # a kill between the two renamings of a checkpoint
    assert find_agent(env_id)[2] == paths.run_folder(env_id, 0) / before.name


def test_a_missing_agent_says_what_makes_one():
    for env_id, script in (("ToyX", "02_dreamer_cartpole.py --env ToyX"), ("Acrobot-v1", "05_dreamer_acrobot.py"),
                           ("walker_walk-proprio", "08_dreamer_walker_walk.py --env walker_walk-proprio")):
        with pytest.raises(checkpoint.CheckpointError, match=f"no trained agent for {env_id}.*; python {script} --seed 3 makes one"):
            find_agent(env_id, 3)


def test_a_file_of_another_kind_is_refused(tmp_path):
    checkpoint.save(tmp_path / "x.pt", {"config": {"no_such_flag": 1}, "average": {}})
    with pytest.raises(checkpoint.CheckpointError, match="another version"):
        load_agent(tmp_path / "x.pt")


# ------------------------------------------------------------------ the world model alone

def world_run(**changes):
    return Run(tiny(**{"steps": 60, "prefill": 60, **changes}))


def test_the_world_model_alone_learns_and_behaviour_stays_as_it_was():
    run = world_run(train_ratio=60.0)
    before = {k: v.clone() for k, v in run.learner.agent.state_dict().items()}
    train_world_model(run)
    after = run.learner.agent.state_dict()
    assert run.learner.updates == 60 * 60 // 32
    changed = {k.split(".")[0] for k in after if not torch.equal(before[k], after[k])}
    assert changed == {"world_model"}
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss_rec"] < lines[0]["loss_rec"] and "loss_policy" not in lines[0]


def test_a_killed_world_model_run_resumes_exactly(monkeypatch):
    monkeypatch.setattr("dreamer.training.offline.SAVE_EVERY", 10)
    whole = world_run(output="whole")
    train_world_model(whole)
    broken, sample, count = world_run(output="broken"), None, iter(range(14))
    sample = broken.replay.sample

    def stop(*arguments):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return sample(*arguments)
    broken.replay.sample = stop
    with pytest.raises(KeyboardInterrupt):
        train_world_model(broken)
    again = world_run(output="broken")
    train_world_model(again)
    for mine, theirs in zip(again.learner.agent.parameters(), whole.learner.agent.parameters()):
        assert torch.equal(mine, theirs)


def test_an_agent_that_is_not_there_is_missed_with_what_makes_it():
    for path, lesson in ((shipped("CartPole-v1"), "02"), (shipped_model("CartPole-v1"), "01"), (shipped("MiniGrid-FourRooms-v0"), "07")):
        with pytest.raises(checkpoint.CheckpointError) as told:
            load_agent(path)
        assert str(told.value) == (f"there is no agent at assets/{path.parent.name}/{path.name}; git restores it, and "
                                   f"python train_all.py {lesson} trains and ships it anew")
    for path, end in ((shipped("LunarLander-v3-restless"), "restless.pt; if it came with the course, git restores it"),
                      (Path("elsewhere.pt"), "there is no agent at elsewhere.pt")):
        with pytest.raises(checkpoint.CheckpointError, match=end + "$"):
            load_agent(path)


def test_a_notebook_shows_the_sentence_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr(HistoryManager, "enabled", False)
    shell = InteractiveShell()
    with capture_output() as shown:
        shell.run_cell("from dreamer.training.shipping import load_agent, shipped\nload_agent(shipped('Pendulum-v1'))")
    assert shown.stdout.strip() == ("CheckpointError: there is no agent at assets/checkpoints/Pendulum-v1.pt; git restores it, and "
                                    "python train_all.py 03 trains and ships it anew")
