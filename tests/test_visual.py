"""What lessons look with: recorded rows, windows, honest open loop, drawn observations, maps, and script 04."""

import sys
from dataclasses import asdict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from dreamer.agent import Agent
from dreamer.distributions import Draw
from dreamer.training import checkpoint, envs, paths, shipping
from dreamer.training.loop import derived_seed
from dreamer.visual import look, maps, openloop
from dreamer.visual.episodes import Episode, latents, record
from dreamer.visual.render import Painter, beside, no_window, save_gif
from dreamer.world_model.rssm import features
from toys import load_lesson, tiny

DRAWN = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1")


def draw(seed=0):
    return Draw(torch.Generator().manual_seed(seed))


def toy_agent(env_id, seed=0):
    """An agent whose zero-initialised heads have been stirred, so that every input matters."""
    made = envs.Environments(env_id, 1, 0)
    torch.manual_seed(seed)
    agent = Agent(made.spec, made.actions, made.discrete, tiny(env=env_id)).requires_grad_(False)
    for parameter in agent.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    made.close()
    return agent


@pytest.fixture
def cartpole(tiny_size):
    return toy_agent("CartPole-v1")


def episode(length, start=0.0):
    """`length` rows of which every number can be recognised: observation (start + t, t squared)."""
    t = torch.arange(float(length))
    return Episode({"vector": torch.stack([start + t, t ** 2], 1)}, t.unsqueeze(1) + start, 10 * t + start,
                   torch.arange(length) == length - 1)


# ------------------------------------------------------------------ recorded rows

def test_every_row_holds_what_was_known_on_arrival():
    ends = []
    for e in record(None, "toys:ToyCounter-v0", 20, seed=3):
        name, time, action, terminates = e.obs["vector"].unbind(1)
        assert (name == name[0]).all() and torch.equal(time, torch.arange(float(len(e))))
        assert not e.prev_action[0].any() and e.reward[0] == 0                 # nothing led to the first row
        assert (e.prev_action[1:].sum(1) == 1).all()
        assert torch.equal(e.prev_action[1:].argmax(1).float(), action[1:])    # the action seen on arrival
        assert torch.equal(e.reward[1:], 10 * time[1:] + action[1:])           # and the reward it brought
        assert not e.is_terminal[:-1].any() and e.is_terminal[-1] == bool(terminates[0])
        assert e.score == pytest.approx(float(e.reward.sum()))
        ends.append((len(e), bool(e.is_terminal[-1])))
    assert len({length for length, _ in ends}) > 3 and {True, False} == {terminal for _, terminal in ends}


def test_longest_cuts_and_does_not_terminate():
    for e in record(None, "toys:ToyEndless-v0", 3, seed=0, longest=4):
        assert len(e) == 5 and not e.is_terminal.any()


def test_an_agent_is_recorded_in_episodes_of_its_own(cartpole):
    first, again = (record(cartpole, "CartPole-v1", 2, seed=5) for _ in range(2))
    other = record(cartpole, "CartPole-v1", 2, seed=6)
    assert all(torch.equal(a.obs["vector"], b.obs["vector"]) for a, b in zip(first, again))
    assert not torch.equal(first[0].obs["vector"][0], other[0].obs["vector"][0])


def test_latents_follow_the_episode(cartpole):
    e = record(None, "CartPole-v1", 1, seed=1)[0]
    deter, stoch = latents(cartpole, e, draw())
    assert len(deter) == len(stoch) == len(e) and (stoch.sum(-1) == 1).all()
    changed = Episode({"vector": e.obs["vector"].clone()}, e.prev_action, e.reward, e.is_terminal)
    changed.obs["vector"][4] += 100
    after, _ = latents(cartpole, changed, draw())
    assert torch.equal(deter[:5], after[:5]) and not torch.equal(deter[5:], after[5:])    # h_4 has not seen row 4


# ------------------------------------------------------------------ windows and open loop

def test_windows_never_cross_episodes():
    rows = openloop.segments([episode(7), episode(3, 100.0), episode(5, 200.0)], 4)
    first = rows["obs"]["vector"][:, :, 0]
    assert first[:, 0].tolist() == [0, 1, 2, 3, 200, 201]                     # the episode of 3 rows has none
    assert torch.equal(first - first[:, :1], torch.arange(4.0).expand(6, 4))
    assert torch.equal(rows["prev_action"][..., 0], first) and rows["is_terminal"].sum() == 2
    assert torch.equal(rows["reward"][0], torch.tensor([0.0, 10, 20, 30]))
    assert openloop.segments([episode(7)], 3, every=2)["obs"]["vector"][:, 0, 0].tolist() == [0, 2, 4]
    with pytest.raises(ValueError, match="no episode has 8 rows; the longest has 7"):
        openloop.segments([episode(7)], 8)


def test_open_loop_never_looks_after_the_context(cartpole):
    rows = openloop.segments(record(None, "CartPole-v1", 4, seed=0), 8)
    said = openloop.open_loop(cartpole, rows, 3, draw(), samples=2)
    count = len(rows["reward"])
    assert said["vector"].shape == (2, count, 5, 4) and said["reward"].shape == said["continues"].shape == (2, count, 5)
    assert ((said["continues"] >= 0) & (said["continues"] <= 1)).all()

    def again(key, row):
        changed = {k: dict(v) if k == "obs" else v.clone() for k, v in rows.items()}
        changed["obs"]["vector"] = rows["obs"]["vector"].clone()
        if key == "obs":
            changed["obs"]["vector"][:, row] += 100
        else:
            changed[key][:, row] = changed[key][:, row].flip(-1) if key == "prev_action" else 5
        return openloop.open_loop(cartpole, changed, 3, draw(), samples=2)
    for row in range(3, 8):                             # what really happened: observations, rewards
        for key in ("obs", "reward"):
            assert all(torch.equal(a, b) for a, b in zip(said.values(), again(key, row).values()))
    assert not torch.equal(said["vector"], again("obs", 2)["vector"])           # the last row that was seen
    for row in range(3, 8):                             # an action counts from the row it leads to
        other = again("prev_action", row)["vector"]
        assert torch.equal(said["vector"][:, :, :row - 3], other[:, :, :row - 3])
        assert not torch.equal(said["vector"][:, :, row - 3], other[:, :, row - 3])


def test_decoded_numbers_are_in_the_units_of_the_task(cartpole):
    world, e = cartpole.world_model, record(None, "CartPole-v1", 1, seed=1)[0]
    deter, stoch = latents(cartpole, e, draw())
    before = openloop.decode(cartpole, deter, stoch)["vector"]
    world.standardize.mean += 100
    world.standardize.std *= 2
    torch.testing.assert_close(openloop.decode(cartpole, deter, stoch)["vector"], 2 * before + 100)


def test_extrapolation_by_hand():
    rows = openloop.segments([episode(5)], 5)           # (0, 0) (1, 1) (2, 4) | (3, 9) (4, 16)
    same, further = openloop.extrapolate(rows, 3)
    assert same.tolist() == [[[2, 4], [2, 4]]] and further.tolist() == [[[3, 7], [4, 10]]]


def test_error_by_hand():
    truth = torch.zeros(2, 3, 2)                        # two segments, three steps, two numbers
    predicted = torch.tensor([[[2.0, 0], [4, 0], [0, 0]], [[2, 0], [0, 0], [0, 30]]])
    wanted = (torch.tensor([1 + 1, 4, 9.0]) / 4).sqrt()                     # scales 2 and 10
    torch.testing.assert_close(openloop.error(predicted, truth, torch.tensor([2.0, 10])), wanted)


# ------------------------------------------------------------------ what maps compute

def test_fan_is_of_open_loop_and_its_band_is_the_percentiles(cartpole):
    episodes = record(None, "CartPole-v1", 6, seed=0)
    said = maps.fan(cartpole, episodes, 3, 5, 11, draw())
    enough = [e for e in episodes if len(e) >= 8]
    assert torch.equal(said["real"], torch.stack([e.obs["vector"][:8] for e in enough]))
    dreams = openloop.open_loop(cartpole, openloop.segments(enough, 8, every=1000), 3, draw(), 11)["vector"]
    middle = dreams.sort(0).values
    assert torch.equal(said["median"], middle[5])
    torch.testing.assert_close((said["low"], said["high"]), (middle[1], middle[9]))
    for e in episodes:
        e.obs["vector"][3:] = 0
    blind = maps.fan(cartpole, episodes, 3, 5, 11, draw())
    assert torch.equal(said["low"], blind["low"]) and torch.equal(said["high"], blind["high"])


def test_a_band_of_few_dreams_holds_less_than_80_percent_of_what_it_should():
    """Reality as one more draw of the same normal distribution, in 20,000 places (standard error .003)."""
    generator = torch.Generator().manual_seed(0)
    for samples in (30, 300):
        dreams, real = torch.randn(samples, 20_000, 1, 1, generator=generator), torch.randn(20_000, 1, 1, generator=generator)
        low, high = dreams.quantile(torch.tensor([0.1, 0.9]), 0)
        assert abs(maps.inside({"real": real, "low": low, "high": high}) - maps.fair_share(samples)) < 0.015
    assert round(maps.fair_share(30), 2) == 0.75


def test_fan_shortens_to_the_longest_episode(cartpole):
    episodes = record(None, "CartPole-v1", 3, seed=0)
    said = maps.fan(cartpole, episodes, 3, 1000, 4, draw())
    assert said["low"].shape[1] == max(map(len, episodes)) - 3


def test_inside_counts_reality_in_the_band():
    real = torch.tensor([[[9.0], [9], [0], [1], [2], [5]]])                 # two rows of context
    band = {"real": real, "low": torch.zeros(1, 4, 1), "high": torch.full((1, 4, 1), 2.0)}
    assert maps.inside(band) == 0.75


def test_rewards_stand_beside_the_rows_they_belong_to(cartpole):
    episodes = record(None, "toys:ToyCounter-v0", 30, seed=0)
    agent = toy_agent("toys:ToyCounter-v0")
    predicted, real = maps.rewards(agent, episodes, 2, 3, draw(), most=7)
    rows = openloop.segments(episodes, 5)
    assert predicted.shape == real.shape and 1 <= len(real) <= 7
    assert all((row == rows["reward"][:, 2:]).all(1).any() for row in real)
    ends = torch.stack([e.reward[-3:] for e in episodes if len(e) >= 5])
    assert torch.equal(maps.rewards(agent, episodes, 2, 3, draw(), most=len(ends))[1], ends)
    everything = maps.rewards(agent, episodes, 2, 3, draw())[1]
    assert sorted(everything.tolist()) == sorted(rows["reward"][:, 2:].tolist())


def returns_by_hand(episode, discount, after):
    """Sum of discounted rewards from each row on, one loop for each."""
    length = len(episode) - 1
    reward = episode.reward.tolist()
    return [sum(discount ** k * reward[t + 1 + k] for k in range(length - t)) + discount ** (length - t) * after
            for t in range(length)]


def test_returns_continue_after_a_cut_and_not_after_an_end(cartpole):
    agent, discount = toy_agent("toys:ToyCounter-v0"), tiny().discount
    seen = set()
    for e in record(None, "toys:ToyCounter-v0", 12, seed=1):
        said, terminal = maps.values(agent, e, draw()), bool(e.is_terminal[-1])
        assert said["value"].shape == said["continues"].shape == (len(e),)
        after = 0 if terminal else float(said["value"][-1])
        np.testing.assert_allclose(said["returns"], returns_by_hand(e, discount, after), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(said["earned"], returns_by_hand(e, discount, 0), rtol=1e-4, atol=1e-3)
        assert torch.equal(said["returns"], said["earned"]) == terminal
        seen.add(terminal)
    assert seen == {True, False}


def test_values_are_the_critics_mean(cartpole):
    e = record(None, "CartPole-v1", 1, seed=1)[0]
    feature = features(*latents(cartpole, e, draw()))
    assert torch.equal(maps.values(cartpole, e, draw())["value"], cartpole.critic.mean(cartpole.critic(feature)))


def test_states_keep_feature_and_observation_together(cartpole):
    episodes = record(None, "CartPole-v1", 3, seed=1)
    feature, seen = maps.states(cartpole, episodes[:1], draw())
    assert len(feature) == len(seen) == len(episodes[0])
    size = cartpole.world_model.rssm.deter
    deter = latents(cartpole, episodes[0], draw())[0]
    for row, vector in zip(feature, seen):
        t = int((episodes[0].obs["vector"] == vector).all(1).nonzero()[0])
        assert torch.equal(row[:size], deter[t])
    assert len(maps.states(cartpole, episodes, draw(), 7)[0]) == 7


def test_probe_reads_what_is_linear_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    x, new = (torch.randn(400, 6, generator=generator) for _ in range(2))
    target = lambda f: torch.stack([3 * f[:, 0] - f[:, 4] + 7, f[:, 0] ** 2], 1)
    linear, square = maps.probe(x, target(x), new, target(new), ridge=1e-3).tolist()
    assert linear > 0.999 and square < 0.1
    noise = torch.randn(400, 1, generator=generator), torch.randn(400, 1, generator=generator)
    assert maps.probe(x, noise[0], new, noise[1])[0] < 0.05
    (x, new), (y, new_y) = torch.randn(2, 40, 30, generator=generator), torch.randn(2, 40, 1, generator=generator)
    assert maps.probe(x, y, x, y)[0] > 0.5              # so few states can be learned by heart,
    assert maps.probe(x, y, new, new_y)[0] < 0          # which says nothing of new ones


def test_tsne_keeps_clusters_apart_and_accepts_few_points():
    generator = torch.Generator().manual_seed(0)
    points = torch.cat([torch.randn(15, 5, generator=generator) + c for c in (0, 50)])
    place = torch.as_tensor(maps.tsne(points, perplexity=30))
    distance = torch.cdist(place, place).fill_diagonal_(torch.inf)
    assert place.shape == (30, 2) and (distance.argmin(1) // 15 == torch.arange(30) // 15).all()


def test_quantities_of_acrobot_are_its_physics():
    env = gym.make("Acrobot-v1").unwrapped
    env.reset(seed=0)
    env.AVAIL_TORQUE = [0.0]
    env.state, seen = np.array([2.0, -0.5, 0.3, -0.2]), []
    for _ in range(20):
        solved = env.step(0)[2]
        seen.append(env._get_ob())
        assert solved == bool(maps.tip_height(torch.as_tensor(seen[-1]).unsqueeze(0))[0] > 1)
    energy = maps.energy(torch.as_tensor(np.stack(seen)))
    assert energy.std() < 0.1 and torch.as_tensor(np.stack(seen))[:, 4].std() > 0.5     # it moves; its energy stays


@pytest.mark.parametrize("env_id", maps.TASKS)
def test_every_number_has_a_name_and_every_quantity_a_value(env_id):
    space, task = envs.make(env_id).observation_space, maps.TASKS[env_id]
    assert len(task.names) == space.shape[0] and set(task.cyclic) <= set(task.quantities) and len(task.quantities) == 2
    seen = torch.as_tensor(np.stack([space.sample() for _ in range(5)]))
    assert all(quantity(seen).shape == (5,) for quantity in task.quantities.values())


def test_figures_are_drawn(cartpole, tmp_path):
    episodes, figure = record(None, "CartPole-v1", 5, seed=0), Figure()
    axes = figure.subplots(4, 2)
    maps.draw_fan(axes[:2], maps.fan(cartpole, episodes, 2, 6, 5, draw()), maps.TASKS["CartPole-v1"].names)
    maps.draw_rewards(axes[2], *maps.rewards(cartpole, episodes, 2, 6, draw()))
    maps.draw_values(axes[3], maps.values(cartpole, episodes[0], draw()), "title")
    assert [a.get_title() for a in axes[:2].flat] == list(maps.TASKS["CartPole-v1"].names)
    room = [a.get_ylim()[1] - a.dataLim.y1 for a in axes[:2].flat] / np.array([np.ptp(a.get_ylim()) for a in axes[:2].flat])
    assert room[0] > 0.25 > room[1:].max()              # for a legend, in the first panel
    assert axes[2, 0].get_title() == "all real rewards are equal"
    figure.savefig(tmp_path / "figure.png")


# ------------------------------------------------------------------ drawn observations

def different(a, b):
    """Share of pixels that differ."""
    return float((a != b).any(-1).mean())


def played(env_id, seed, steps, action=None):
    """The environment after some steps, its observation, the agent's action before it, and its own picture."""
    env = envs.wrap(gym.make(env_id, render_mode="rgb_array"))
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(steps):
        chosen = env.action_space.sample() if action is None else action
        obs = env.step(chosen)[0]
    with no_window():
        picture = env.unwrapped.render().copy()
    env.close()
    return obs, np.atleast_1d(chosen), picture


@pytest.mark.parametrize("env_id", DRAWN)
@pytest.mark.parametrize("steps", [1, 7])
def test_a_drawn_observation_is_the_environments_own_picture(env_id, steps):
    obs, action, picture = played(env_id, 3, steps)
    painter = Painter(env_id)
    assert different(painter.draw(obs, action), picture) < 1e-4
    assert different(painter.draw(-obs, action), picture) > 1e-3            # something else looks different
    assert different(painter.draw(obs, action), picture) < 1e-4             # and leaves nothing behind
    painter.close()


def test_the_torque_of_the_pendulum_is_drawn():
    obs, action, picture = played("Pendulum-v1", 3, 2)
    painter = Painter("Pendulum-v1")
    assert different(painter.draw(obs, -action), picture) > 1e-3 and different(painter.draw(obs), picture) > 1e-3
    painter.close()


def test_a_drawn_lander_is_nearly_the_environments_own_picture():
    pytest.importorskip("Box2D")
    obs, _, picture = played("LunarLander-v3", 4, 40, action=0)             # no engine: no flames
    painter = Painter("LunarLander-v3", seed=4)
    assert different(painter.draw(obs), picture) < 1e-3
    elsewhere = obs + np.array([0.2, 0, 0, 0, 0, 0, 0, 0])
    assert different(painter.draw(elsewhere), picture) > 5e-3
    assert different(Painter("LunarLander-v3", seed=5).draw(obs), picture) > 5e-3           # other hills
    painter.close()


def test_the_video_driver_is_left_as_it_was(monkeypatch):
    import os
    for before in (None, "x11"):
        monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
        if before:
            monkeypatch.setenv("SDL_VIDEODRIVER", before)
        with no_window():
            assert os.environ["SDL_VIDEODRIVER"] == "dummy"
        assert os.environ.get("SDL_VIDEODRIVER") == before


def test_a_task_that_cannot_be_drawn_is_named():
    with pytest.raises(envs.TaskError, match="MountainCar-v0 cannot be drawn.*CartPole-v1"):
        Painter("MountainCar-v0")


def test_dream_beside_reality(cartpole, tmp_path):
    e = max(record(None, "CartPole-v1", 5, seed=0), key=len)
    images = beside(cartpole, "CartPole-v1", e, 4, 6, draw())
    halves = [(np.array(i)[30:, :i.width // 2 - 3], np.array(i)[30:, i.width // 2 + 3:]) for i in images]
    assert len(images) == 10
    assert all(np.array_equal(*pair) for pair in halves[:4]) and not any(np.array_equal(*pair) for pair in halves[4:])
    for name in ("vector",):                            # what it does not look at does not change the dream
        e.obs[name][4:] = 0
    blind = [np.array(i)[30:, i.width // 2 + 3:] for i in beside(cartpole, "CartPole-v1", e, 4, 6, draw())]
    assert all(np.array_equal(dream, now) for (_, dream), now in zip(halves, blind))
    save_gif(images, tmp_path / "dream.gif")
    with Image.open(tmp_path / "dream.gif") as gif:
        assert gif.n_frames == 10 and gif.size == images[0].size
    assert len(beside(cartpole, "CartPole-v1", e, 4, 1000, draw())) == len(e)


def test_what_is_small_keeps_its_colour_in_a_moving_picture(tmp_path):
    """Grey shades everywhere, and of three colours a few pixels: a palette by frequency alone would merge these."""
    shades = np.tile(np.arange(0, 200, dtype=np.uint8)[:, None, None], (1, 200, 3))
    images, colors = [], ((239, 239, 85), (76, 255, 76), (255, 76, 76))
    for shift in range(8):
        picture = (shades + shift * 5).astype(np.uint8)
        for k, color in enumerate(colors):
            picture[20:28, 20 + 20 * k:28 + 20 * k] = color
        images.append(Image.fromarray(picture))
    save_gif(images, tmp_path / "small.gif")
    with Image.open(tmp_path / "small.gif") as gif:
        gif.seek(5)
        shown = np.asarray(gif.convert("RGB")).astype(int)
    for k, color in enumerate(colors):
        assert np.abs(shown[24, 24 + 20 * k] - color).max() < 40


# ------------------------------------------------------------------ the script

@pytest.fixture
def lesson(tiny_size, tmp_path, monkeypatch):
    """The module of lesson 4, with small numbers, in a folder without agents."""
    monkeypatch.chdir(tmp_path)
    module = load_lesson("04_visualize")
    assert module.CONTEXT == look.CONTEXT
    for name, value in {"GREEDY": 3, "RANDOM": 8, "LONGEST": 30, "STATES": 30, "CONTEXT": 3, "HORIZON": 5, "SAMPLES": 3,
                        "REWARD_HORIZON": 4, "FRAMES": 8}.items():
        assert hasattr(look, name)
        monkeypatch.setattr(look, name, value)
    return module


def put(env_id, seed=0):
    """The checkpoint of a run of a toy agent."""
    path = paths.run_folder(env_id, seed) / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    checkpoint.save(path, {"config": asdict(tiny(env=env_id)), "average": toy_agent(env_id).state_dict(), "updates": 0})


KINDS = ["dream", "fan", "reward", "tsne", "value"]


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_tasks_without_an_agent_are_named_and_skipped(lesson, capsys):
    put("CartPole-v1")
    assert lesson.main(["--output", "out"]) == 0
    assert files(Path("out")) == [f"04_{k}_CartPole-v1.{'gif' if k == 'dream' else 'png'}" for k in KINDS]
    said = capsys.readouterr().out
    for env_id in ("Pendulum-v1", "Acrobot-v1", "LunarLander-v3"):
        assert f"{env_id} is skipped: there is no trained agent for {env_id}" in said
    assert "CartPole-v1: runs/CartPole-v1-0/checkpoint.pt" in said and "skipped" not in said.partition("Pendulum")[0]


def test_an_agent_of_the_course_is_named_as_such(lesson, capsys):
    """With --seed 7 and no run of that seed it is seed 0's that is looked at."""
    put("Pendulum-v1")
    own = paths.ROOT / "runs" / "Pendulum-v1-0" / "checkpoint.pt"
    shipping.ship(own, shipping.shipped("Pendulum-v1"))
    assert lesson.main(["--env", "Pendulum-v1", "--output", "out"]) == 0
    assert "Pendulum-v1: runs/Pendulum-v1-0/checkpoint.pt\n" in capsys.readouterr().out
    assert lesson.main(["--env", "Pendulum-v1", "--output", "out", "--seed", "7"]) == 0
    assert ("Pendulum-v1: assets/checkpoints/Pendulum-v1.pt, which comes with the course (seed 0): runs/ has none of seed 7\n"
            in capsys.readouterr().out)


def test_the_default_folder_is_assets(lesson):
    put("Pendulum-v1", seed=2)
    assert lesson.main(["--env", "Pendulum-v1", "--seed=2"]) == 0
    assert len(files(paths.ROOT / "assets")) == 5


def test_nothing_to_draw_is_an_error_in_one_line(lesson, capsys):
    assert lesson.main(["--output", "out"]) == 1
    assert not Path("out").exists()
    assert capsys.readouterr().err == "error: nothing could be drawn; the lines above say why\n"


def test_a_damaged_agent_is_named_and_does_not_stop_the_rest(lesson, capsys):
    put("Pendulum-v1")
    (paths.ROOT / "runs" / "CartPole-v1-0").mkdir()
    (paths.ROOT / "runs" / "CartPole-v1-0" / "checkpoint.pt").write_bytes(b"no checkpoint")
    assert lesson.main(["--output", "out"]) == 0
    assert "CartPole-v1 is skipped" in capsys.readouterr().out and len(files(Path("out"))) == 5


def test_a_missing_box2d_is_named_and_does_not_stop_the_rest(lesson, monkeypatch, capsys):
    put("CartPole-v1")
    pytest.importorskip("Box2D")
    put("LunarLander-v3")
    really = gym.make

    def without_box2d(env_id, **options):
        if env_id == "LunarLander-v3":
            raise gym.error.DependencyNotInstalled("Box2D is not installed")
        return really(env_id, **options)
    monkeypatch.setattr(gym, "make", without_box2d)
    assert lesson.main(["--output", "out"]) == 0
    assert "LunarLander-v3 is skipped: LunarLander-v3 needs a package" in capsys.readouterr().out
    assert len(files(Path("out"))) == 5


def test_without_pygame_all_but_the_moving_picture_is_drawn(lesson, monkeypatch, capsys):
    put("CartPole-v1")
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert lesson.main(["--output", "out", "--env", "CartPole-v1"]) == 0
    assert "no moving picture: CartPole-v1 cannot be drawn: pygame" in capsys.readouterr().out
    assert files(Path("out")) == [f"04_{k}_CartPole-v1.png" for k in KINDS if k != "dream"]


@pytest.mark.parametrize("flags, words", [
    (["--sede", "1"], "unknown flag --sede; did you mean --seed?"), (["--steps", "9"], "--steps is for training, and this lesson"),
    (["--no-resume"], "--no-resume is for training"), (["CartPole-v1"], "unexpected word"), (["--env", "Cartpole-v1"], "did you mean CartPole-v1?"),
    (["--seed", "-1"], "--seed must be 0 or more"), (["--seed", "one"], "--seed"), (["--env"], "--env")])
def test_wrong_flags_are_refused_in_one_line(lesson, flags, words, capsys):
    assert lesson.main(flags) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and said.count("\n") == 1


def test_a_folder_that_cannot_be_is_named(lesson, capsys):
    put("CartPole-v1")
    Path("taken").write_text("a file")
    assert lesson.main(["--env", "CartPole-v1", "--output", "taken"]) == 1
    assert "taken" in capsys.readouterr().err


def test_every_picture_is_of_held_out_episodes(lesson, monkeypatch):
    """No episode is one of the training run, of its evaluations or of its last ones, and all pictures get those."""
    put("CartPole-v1", seed=7)
    seeds, made, shown = [], [], []

    def spy(agent, env_id, episodes, seed, *rest, **options):
        seeds.append(seed)
        made.extend(record(agent, env_id, episodes, seed, *rest, **options))
        return made[-episodes:]
    monkeypatch.setattr(look, "record", spy)
    monkeypatch.setattr(look.Look, "closed_eyes", lambda view: True)        # no picture: what it dreams of is noise
    for name in ("states", "fan", "rewards"):
        really = getattr(maps, name)
        monkeypatch.setattr(maps, name, lambda agent, given, *rest, really=really:
                            shown.extend(given) or really(agent, given, *rest))
    really_values, really_beside = maps.values, look.beside
    monkeypatch.setattr(maps, "values", lambda agent, e, d: shown.append(e) or really_values(agent, e, d))
    monkeypatch.setattr(look, "beside", lambda a, i, e, *rest: shown.append(e) or really_beside(a, i, e, *rest))
    assert lesson.main(["--env", "CartPole-v1", "--seed", "7", "--output", "out"]) == 0
    used = {7, derived_seed(7, 2), *(derived_seed(7, 1, step) for step in range(0, 100_000, 250))}
    assert len(seeds) == 2 and len(set(seeds)) == 2 and not used & set(seeds)
    assert len(shown) >= 5 and all(any(e is known for known in made) for e in shown)


def test_the_bar_is_met_with_closed_eyes_and_not_with_open_ones(lesson, monkeypatch, capsys):
    put("CartPole-v1")
    assert lesson.main(["--env", "CartPole-v1", "--output", "out"]) == 0
    assert "bar met:     CartPole-v1, fresh episodes" in capsys.readouterr().out
    really = maps.open_loop

    def reconstruct(agent, rows, context, draw, samples=1):
        """What a cheat calls a dream: one more row is looked at than is said."""
        later = {**rows, "obs": {k: torch.cat([v[:, 1:], v[:, -1:]], 1) for k, v in rows["obs"].items()}}
        return really(agent, later, context, draw, samples)
    monkeypatch.setattr(maps, "open_loop", reconstruct)
    assert lesson.main(["--env", "CartPole-v1", "--output", "out"]) == 0
    assert "bar not met: CartPole-v1" in capsys.readouterr().out


def test_the_hills_of_a_recorded_episode_are_drawn():
    """Episode i of a recording is reset with derived_seed(seed, i): what the script gives the painter."""
    single = gym.make("CartPole-v1")
    for i, e in enumerate(record(None, "CartPole-v1", 3, seed=11)):
        assert np.array_equal(single.reset(seed=derived_seed(11, i))[0], e.obs["vector"][0].numpy())
    single.close()
