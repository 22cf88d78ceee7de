"""The health panel: its numbers, by hand where that is possible, and a figure that is a picture."""

import json

import pytest
import torch
from matplotlib.figure import Figure

from dreamer.agent import Agent
from dreamer.distributions import Draw, latent_kl
from dreamer.training.envs import Environments, TaskError
from dreamer.visual import health
from dreamer.visual.episodes import Episode, record
from toys import tiny


@pytest.fixture
def agent(tiny_size):
    torch.manual_seed(0)
    config = tiny(stoch=4, discount_horizon=10.0)
    envs = Environments(config.env, 1, 0)
    return Agent(envs.spec, envs.actions, envs.discrete, config).requires_grad_(False)


def draw():
    return Draw(torch.Generator().manual_seed(0))


def episode(rewards, terminal):
    """An episode of the Counter with made-up rewards."""
    count = len(rewards) + 1
    ends = torch.zeros(count, dtype=torch.bool)
    ends[-1] = terminal
    return Episode({"vector": torch.randn(count, 4)}, torch.eye(3)[torch.arange(count) % 3],
                   torch.tensor([0.0, *rewards]), ends)


def test_bins_halve_and_keep_every_row():
    predicted = torch.linspace(0, 1, 400)
    happened = predicted > 0.5
    part = health.bins(predicted.flip(0), happened.flip(0))
    assert part["count"] == [200, 100, 50, 25, 25] and part["terminations"] == 200
    assert part["observed"] == [0, 1, 1, 1, 1] and part["predicted"] == sorted(part["predicted"])
    assert part["expected"] == pytest.approx(200, abs=0.01)


def test_bins_of_a_calibrated_forecast_lie_on_the_diagonal():
    torch.manual_seed(0)
    predicted = torch.rand(20_000) ** 3
    part = health.bins(predicted, torch.rand(20_000) < predicted)
    for p, observed, count in zip(part["predicted"], part["observed"], part["count"]):
        assert abs(p - observed) < 4 * (0.25 / count) ** 0.5


def test_few_rows_make_one_bin():
    assert health.bins(torch.tensor([0.1, 0.3]), torch.tensor([False, True])) == {
        "predicted": [pytest.approx(0.2)], "observed": [0.5], "count": [2], "expected": pytest.approx(0.4), "terminations": 1}


def test_real_returns_are_discounted_sums_and_truncated_tails_are_left_out(agent):
    rewards, gamma = torch.randn(30).tolist(), 0.9
    done, cut = episode(rewards, True), episode(rewards, False)
    walk = health.posterior(agent, [done, cut], draw())
    by_hand = [sum(r * gamma ** k for k, r in enumerate(rewards[t:])) for t in range(30)]
    deter, _, real, truncated = health.real_returns(agent, done, *walk[0][:2])
    assert real.tolist() == pytest.approx(by_hand, abs=1e-4) and not truncated.any()
    assert torch.equal(deter, walk[0][0][:-1])
    deter, stoch, real, truncated = health.real_returns(agent, cut, *walk[1][:2])
    kept = [t for t in range(30) if gamma ** (30 - t) <= health.CRITICS_SHARE]
    assert len(kept) == len(real) == 17 and truncated.all()
    # A fresh critic says 0, so nothing is added for what would have followed.
    assert real.tolist() == pytest.approx([by_hand[t] for t in kept], abs=1e-4)


def test_the_critics_word_stands_for_what_was_cut_off(agent):
    cut = episode([0.0] * 30, False)
    agent.critic.out.bias[-100] = 50.0                  # now it says the same large value everywhere
    walk = health.posterior(agent, [cut], draw())
    value = float(agent.value(agent.critic(health.features(*walk[0][:2])))[0])
    real = health.real_returns(agent, cut, *walk[0][:2])[2]
    assert value > 1 and real.tolist() == pytest.approx([value * 0.9 ** (30 - t) for t in range(17)], rel=1e-4)


def test_correlation():
    a = torch.tensor([1.0, 2.0, 4.0])
    assert health.correlation(a, 3 * a + 1) == pytest.approx(1) and health.correlation(a, -a) == pytest.approx(-1)
    assert health.correlation(a, torch.ones(3)) is None and health.correlation(a[:1], a[:1]) is None


def test_the_posterior_side_by_side_is_that_of_each_episode_alone(agent):
    episodes = [episode([1.0] * n, True) for n in (3, 9)]
    walk = health.posterior(agent, episodes, draw())
    assert [len(part) for part in walk[0]] == [4] * 3 and [len(part) for part in walk[1]] == [10] * 3
    # What is before the first draw does not depend on the neighbour: h_0 comes from the zero state.
    alone = health.posterior(agent, episodes[:1], draw())
    assert torch.allclose(walk[0][0][0], alone[0][0][0], atol=1e-6)


def test_calibration_sees_only_the_last_row_of_terminated_episodes(agent):
    episodes = [episode([1.0] * 40, True), episode([1.0] * 40, False)]
    walk = health.posterior(agent, episodes, draw())
    part = health.calibration(agent, episodes, walk, draw())
    assert part["seen"]["terminations"] == 1 and sum(part["seen"]["count"]) == 82
    assert part["ahead"]["terminations"] == 1 and sum(part["ahead"]["count"]) == 2 * (41 - 20 + 1) and part["horizon"] == 15
    agent.world_model.continues[1].bias += 50           # sure that it always goes on
    assert health.calibration(agent, episodes, walk, draw())["seen"]["expected"] == 0
    agent.world_model.continues[1].bias -= 100          # sure that it always ends
    assert health.calibration(agent, episodes, walk, draw())["seen"]["expected"] == pytest.approx(82, abs=1e-3)


def test_open_loop_error_against_no_change(agent):
    still = episode([0.0] * 40, True)
    still.obs["vector"][:] = torch.tensor([1.0, 2.0, 3.0, 0.0])
    still.obs["vector"][::2, 0] = -1.0                  # one number goes to and fro, the others never change
    part = health.open_loop_error(agent, [still], draw())
    scale = still.obs["vector"][:, 0].std().item()
    assert part["no change"][:2] == pytest.approx([2 / scale, 0]) and len(part["model"]) == len(part["eyes open"]) == 15


def test_short_episodes_shorten_the_horizon_and_too_short_ones_are_refused(agent):
    short = [episode([1.0] * 8, True)]
    assert len(health.open_loop_error(agent, short, draw())["model"]) == 4
    with pytest.raises(TaskError, match="episodes of at most 4 rows are too short"):
        health.open_loop_error(agent, [episode([1.0] * 3, True)], draw())


def test_kl_reads_the_metrics_of_the_run_if_there_are_any(agent, tmp_path):
    walk = health.posterior(agent, [episode([1.0] * 8, True)], draw())
    file = tmp_path / "metrics.jsonl"
    assert health.kl(agent, walk, file)["step"] == [] and len(health.kl(agent, walk)["held out"]) == 9
    file.write_text("".join(json.dumps(line) + "\n" for line in ({"step": 5}, {"step": 10, "kl": 2.5})))
    part = health.kl(agent, walk, file)
    assert (part["step"], part["kl"], part["free nats"]) == ([10], [2.5], 1.0) and part["held out mean"] > 0


@pytest.mark.parametrize("task", ["toys:ToyCounter-v0", "toys:ToyContinuous-v0", "toys:ToySymbols-v0"])
def test_examine_and_draw(task, tiny_size, tmp_path):
    config = tiny(env=task)
    envs = Environments(task, 1, 0)
    fresh = Agent(envs.spec, envs.actions, envs.discrete, config).requires_grad_(False)
    checkup = health.examine(fresh, task, episodes=8, seed=1)
    assert list(checkup) == ["open loop", "KL", "termination", "returns"]
    assert (checkup["open loop"] is None) == (task == "toys:ToySymbols-v0")
    assert len(checkup["returns"]["real"]) == len(checkup["returns"]["value"]) == len(checkup["returns"]["dreamed"])
    json.dumps(checkup)                                 # plain numbers
    health.save(checkup, tmp_path / "deep" / "panel.png", task)
    assert (tmp_path / "deep" / "panel.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_checkup(agent):
    episodes = record(agent, "toys:ToyCounter-v0", 8, 3)
    assert health.measure(agent, episodes, episodes, 2) == health.measure(agent, episodes, episodes, 2)


# ------------------------------------------------------------------ honest numbers

def test_the_model_is_judged_with_closed_eyes_and_so_is_the_end_of_an_episode(agent):
    """Its error is that of `open_loop`, whose honesty test_visual.py looks at, and not of rows that it was shown."""
    episodes = [episode([1.0] * 40, True), episode([1.0] * 40, False)]
    for parameter in agent.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    part, rows = health.open_loop_error(agent, episodes, draw()), health.windows(episodes, health.WINDOWS)
    said = health.open_loop(agent, rows, health.CONTEXT, draw(), health.SAMPLES)["vector"].mean(0)
    scale = torch.cat([e.obs["vector"] for e in episodes]).std(0)
    assert part["model"] == pytest.approx(health.error(said, rows["obs"]["vector"][:, health.CONTEXT:], scale).tolist())
    assert part["model"] != pytest.approx(part["eyes open"], rel=1e-3)
    ends = health.calibration(agent, episodes, health.posterior(agent, episodes, draw()), draw())["ahead"]["expected"]
    ahead = health.open_loop(agent, health.windows(episodes, health.ENDS), health.CONTEXT, draw())["continues"][0, :, -1]
    assert ends == pytest.approx(float((1 - ahead).sum()), rel=1e-4)


def test_a_dreamed_return_begins_at_the_state_and_a_flattered_one_is_above_the_truth(agent, monkeypatch):
    def judge(feature):
        reward = torch.zeros(feature.shape[:2])
        reward[1] = 7.0                                 # for the first step of the dream, and nothing after it
        return reward, torch.ones_like(reward), torch.zeros_like(reward)
    monkeypatch.setattr(agent, "judge", judge)
    done = [episode([0.0] * 12, True)]
    part = health.returns(agent, done, health.posterior(agent, done, draw()), draw())
    assert part["dreamed"] == pytest.approx([7.0] * 12) and part["real"] == [0.0] * 12
    assert part["bias"]["dreamed"] == pytest.approx(7.0) and part["bias"]["value"] == pytest.approx(0.0, abs=1e-6)
    agent.critic.out.bias[-100] = 50.0                  # now it promises the same large value everywhere
    part = health.returns(agent, done, health.posterior(agent, done, draw()), draw())
    assert part["bias"]["value"] == pytest.approx(part["value"][0]) and part["value"][0] > 1


def test_the_kl_is_that_of_the_posterior_from_the_prior(agent):
    for parameter in agent.world_model.rssm.parameters():
        parameter.add_(0.5 * torch.randn_like(parameter))
    walk, rssm = health.posterior(agent, [episode([1.0] * 8, True)], draw()), agent.world_model.rssm
    wanted = torch.cat([latent_kl(post, rssm.prior(deter), rssm.mix) for deter, _, post in walk])
    assert health.kl(agent, walk)["held out"] == pytest.approx(wanted.tolist(), rel=1e-4)


def test_of_a_world_model_alone_the_kl_is_drawn_over_its_updates(agent, tmp_path):
    walk, file = health.posterior(agent, [episode([1.0] * 8, True)], draw()), tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps({"step": 120, "updates": n, "kl": 2.0}) + "\n" for n in (50, 100)))
    assert (health.kl(agent, walk, file)["step"], health.kl(agent, walk, file)["over"]) == ([50, 100], "updates")
    file.write_text("".join(json.dumps({"step": 10 * n, "updates": n, "kl": 2.0}) + "\n" for n in (50, 100)))
    assert (health.kl(agent, walk, file)["step"], health.kl(agent, walk, file)["over"]) == ([500, 1000], "environment steps")


def test_where_no_number_changes_there_is_no_error_and_the_panel_says_so(agent):
    still = episode([0.0] * 40, True)
    still.obs["vector"][:] = 3.0
    assert health.open_loop_error(agent, [still], draw()) is None
    axis = Figure().subplots()
    health.draw_open_loop(axis, None)
    assert axis.texts[0].get_text() == "no float changes in these episodes"


def test_nothing_is_drawn_behind_the_legend_of_the_held_out_rows_and_ticks_have_room():
    figure = Figure(figsize=(10, 6.5), dpi=64)
    kl, ends = figure.subplots(1, 2)
    health.draw_kl(kl, {"held out": [1.0, 25.0, 25.0, 60.0], "held out mean": 27.75, "free nats": 1.0, "step": []})
    part = {"predicted": [0.001, 0.0287], "observed": [0.0, 0.037], "count": [20, 20], "expected": 0.6, "terminations": 1}
    health.draw_termination(ends, {"seen": part, "ahead": part, "horizon": 15})
    figure.canvas.draw()
    legend = kl.get_legend().get_window_extent()
    assert not any(legend.overlaps(bar.get_window_extent()) for bar in kl.patches)
    assert not legend.overlaps(kl.lines[0].get_window_extent())
    low, high = ends.get_xlim()
    assert sum(low <= tick <= high for tick in ends.get_xticks()) <= 6
