"""The training loop: what is stored, what is counted, when it learns, and what it leaves behind."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import toys
from dreamer.agent import Agent
from dreamer.learner import Learner
from dreamer.training import collect, loop
from dreamer.training import evaluate as evaluation
from dreamer.training.envs import Environments
from dreamer.training.evaluate import evaluate
from dreamer.training.loop import Run
from dreamer.training.records import DivergenceError
from toys import tiny

TIMING = ("seconds", "updates_per_second")


@pytest.fixture(autouse=True)
def small(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_of(**changes):
    """A finished run of a toy."""
    run = Run(tiny(**changes))
    run.summary = run.train()
    return run


def lines(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def without_times(run):
    return [{k: v for k, v in line.items() if k not in TIMING} for line in lines(run)]


def stream(run, ring=0):
    """The rows of one environment as a list of dicts, oldest first (the ring must not have wrapped)."""
    count = int(run.replay.count[ring])
    assert count <= run.replay.length
    return [{k: v[ring, i] for k, v in run.replay.rows.items()} for i in range(count)]


# ------------------------------------------------------------------ one update after the other

def one_by_one(run):
    """What `learn` amounts to."""
    while run.learner.updates < run.updates_due():
        batch, state, place = run.replay.sample(run.config.batch_size, run.device)
        metrics, latents = run.learner.update(batch, state)
        run.replay.write_back(place, *latents)
        run.records.add(metrics)


def test_a_batch_that_is_prepared_during_an_update_is_the_one_that_would_follow_it(monkeypatch):
    """Windows overlap those of the update before in a buffer of 60 rows, so its fresh latents must be seen."""
    changes = dict(train_ratio=96.0, capacity=60)       # three updates for each step
    ahead = run_of(output="ahead", **changes)
    monkeypatch.setattr(Run, "learn", one_by_one)
    plain = run_of(output="plain", **changes)
    assert ahead.learner.updates == plain.learner.updates > 100
    for mine, theirs in zip(ahead.learner.agent.parameters(), plain.learner.agent.parameters()):
        assert torch.equal(mine, theirs)
    assert all(torch.equal(rows, plain.replay.rows[name]) for name, rows in ahead.replay.rows.items())
    assert without_times(ahead) == without_times(plain)


def test_the_next_batch_is_prepared_before_the_latents_are_waited_for(monkeypatch):
    run, done = Run(tiny(train_ratio=96.0)), []
    for owner, name in ((run.replay, "draw"), (run.learner, "update"), (run.replay, "write_back")):
        monkeypatch.setattr(owner, name, lambda *a, name=name, do=getattr(owner, name): done.append(name) or do(*a))
    run.train()
    assert done[:3] == ["draw", "update", "write_back"]         # the first update of all stands alone
    of_a_step = ["draw", *["update", "draw", "write_back"] * 2, "update", "write_back"]
    assert len(done) > 100 and done[3:] == of_a_step * (len(done[3:]) // len(of_a_step))


# ------------------------------------------------------------------ what is stored

@pytest.mark.parametrize("envs", [1, 3])
def test_stored_rows_follow_the_table_in_replay_py(envs):
    """Counter tells in each observation the action just taken, and rewards 10 t + that action."""
    run = run_of(envs=envs, capacity=600)
    kinds = set()
    for ring in range(envs):
        rows = stream(run, ring)
        for before, row in zip([None, *rows], rows):
            name, time, action, terminates = row["obs_vector"].tolist()
            if before is None or before["is_last"]:
                assert row["is_first"] and time == 0 and action == -1 and row["reward"] == 0
            else:
                assert not row["is_first"] and before["obs_vector"][0] == name
                assert time == before["obs_vector"][1] + 1
                assert before["action"].sum() == 1 and action == before["action"].argmax()
                assert row["reward"] == 10 * time + action
            if row["is_last"]:
                assert not row["action"].any() and bool(row["is_terminal"]) == bool(terminates)
                kinds.add(bool(terminates))
            else:
                assert not row["is_terminal"]
    assert kinds == {True, False}           # the test has seen termination and truncation


@pytest.mark.parametrize("envs", [1, 3])
def test_steps_are_counted_without_resets(envs):
    run = run_of(envs=envs, capacity=600, steps=81)
    rows = [row for ring in range(envs) for row in stream(run, ring)]
    assert run.summary["steps"] == run.step == 81 == sum(not row["is_last"] for row in rows)
    assert len(rows) == 81 + sum(bool(row["is_last"]) for row in rows)
    assert lines(run)[-1]["step"] in (77, 78)       # the last multiple of log_every=7, or just after


def test_continuous_actions_are_stored_as_drawn_and_stretched_to_the_bounds():
    run = run_of(env="toys:ToyContinuous-v0")       # the toy itself refuses actions beyond its bounds
    beyond = 0
    rows = stream(run)
    for before, row in zip(rows, rows[1:]):
        if not row["is_first"]:
            clipped = before["action"].clamp(-1, 1)
            wanted = torch.tensor([-2.0, 0.0]) + (clipped + 1) / 2 * torch.tensor([4.0, 5.0])
            torch.testing.assert_close(row["obs_vector"][2:], wanted)
            beyond += int((before["action"].abs() > 1).any())
    assert beyond                                   # some samples of the Gaussian were outside [-1, 1]


def test_a_dict_of_vector_symbols_and_images_goes_through_unchanged():
    run = run_of(env="toys:ToyMixed-v0", steps=60)
    assert run.envs.spec.vector == 2 and run.envs.spec.symbols == (3, 2, 2) and run.envs.spec.image == 4
    for row in stream(run):
        t = round(float(row["obs_vector"][0]) * 9)
        assert row["obs_symbols"].tolist() == [t % 3, t % 2, 1]
        assert (row["obs_image"][..., :1] == t).all() and (row["obs_image"][..., 1:] == 100 + t).all()
        assert row["reward"] == t
    assert run.learner.updates > 3 and all(np.isfinite(list(without_times(run)[-1].values())))


@pytest.mark.parametrize("env", ["ToyCounter", "ToySymbols", "ToyContinuous"])
def test_asynchronous_environments_give_the_same_run(env):
    options = dict(env=f"toys:{env}-v0", envs=2, steps=60, final_episodes=1, eval_every=1000)
    one = run_of(**options, output="sync")
    two = run_of(**options, output="async", async_envs=True)
    assert without_times(one) == without_times(two) and one.learner.updates > 1


def test_random_actions_are_held_for_a_while_and_reproducible():
    actions = [row["action"].argmax() for row in stream(run_of(prefill=300, steps=300, capacity=800))
               if not row["is_last"]]
    changes = np.mean([a != b for a, b in zip(actions, actions[1:])])
    assert 0.10 < changes < 0.23                    # 1/4 are drawn anew, a third of those are the same again


# ------------------------------------------------------------------ acting

def test_the_agent_is_given_its_own_last_state_and_action(monkeypatch):
    """Recorded at the agent's door: what goes in is what came out one step before."""
    act, calls = Agent.act, []

    def recorded(agent, obs, state, action, first, *others):
        result = act(agent, obs, state, action, first, *others)
        calls.append((obs["vector"], state, action, first, *result))
        return result
    monkeypatch.setattr(Agent, "act", recorded)
    run = Run(tiny(eval_every=1000))
    run.finish = lambda: None                       # no evaluations: only the training run acts
    run.train()
    assert len(calls) == 80 - 24 and any(bool(call[3]) for call in calls)
    for before, call in zip(calls, calls[1:]):
        assert torch.equal(call[2], before[4]) and torch.equal(call[1][0], before[5][0])
        assert bool(call[3]) == (call[0][0, 1] == 0)                            # is_first at time 0
        if not call[3]:
            assert call[0][0, 2] == call[2].argmax()                            # the action that led here


@pytest.mark.parametrize("hold", [0, 3])
def test_late_in_an_episode_the_agent_keeps_its_actions(hold, monkeypatch):
    """Drawn at step 4, kept at 5 and 6, drawn at 7; in every episode anew, and never while actions are random."""
    monkeypatch.setattr(collect, "LATE", 4)
    monkeypatch.setattr(toys.Toy, "reset", longer(toys.Toy.reset))
    run, chosen, counts = Run(tiny(late_hold=hold, envs=2, steps=120, capacity=400)), {}, []
    act = run.collector.agent_actions

    def watched():
        action, state = act()
        counts.append(1)
        fresh = torch.eye(3)[torch.randint(3, (2,))]            # of its own at every step: what is kept is seen
        for i in range(2):
            chosen[(i, len(counts))] = int(fresh[i].argmax())
        return fresh, state
    run.collector.agent_actions = watched
    before = run.collector.step
    taken, ages = [], []

    def step(random):
        first, age = run.collector.first.copy(), run.collector.age.copy()
        before(random)
        if not random:
            taken.append(run.collector.action.argmax(-1).tolist())
            ages.append(age.tolist())
            assert (age[first] == 0).all()
    run.collector.step = step
    run.train()
    kept = 0
    for n, (actions, age) in enumerate(zip(taken, ages)):
        for i in range(2):
            if hold and age[i] > 4 and (age[i] - 4) % 3:
                assert actions[i] == taken[n - 1][i]
                kept += 1
            else:
                assert actions[i] == chosen[(i, n + 1)]
    assert kept > 10 if hold else max(map(max, ages)) > 5


def longer(reset):
    def wrapped(self, seed=None, options=None):
        found = reset(self, seed, options)
        self.length = 10 + self.length
        return found
    return wrapped


def test_latents_of_acting_are_stored_and_updates_refresh_them():
    run = Run(tiny(train_ratio=0.01, eval_every=1000, final_episodes=1))        # one update, at step ~35
    run.train()
    rows, none = stream(run), run.learner.agent.world_model.rssm.classes
    acted = [row for row in rows[-20:] if not row["is_last"]]
    assert all((row["stoch"] < none).all() for row in acted)
    assert all(row["deter"].any() for row in acted if not row["is_first"])
    prefill = [row for row in rows[:20] if not row["is_last"]]
    refreshed = sum(bool((row["stoch"] < none).all()) for row in prefill)
    assert run.learner.updates == 1 and 0 < refreshed < len(prefill)            # one batch wrote back


# ------------------------------------------------------------------ learning

@pytest.mark.parametrize("ratio, envs", [(32.0, 1), (16.0, 1), (5.0, 1), (80.0, 3), (10.0, 3)])
def test_the_train_ratio_is_kept_at_every_step(ratio, envs):
    run = run_of(train_ratio=ratio, envs=envs, log_every=1, capacity=600, steps=70, eval_every=1000, final_episodes=1)
    for line in lines(run):
        steps = line["step"] - run.began
        assert line["updates"] == (1 + int(steps * ratio / 32) if steps >= 0 else 0)


def test_learning_begins_after_the_prefill_and_with_enough_windows():
    run = run_of(prefill=60, eval_every=1000)
    assert run.began == 60
    run = run_of(prefill=0, standardize=False, log_every=1, eval_every=1000, output="other")
    first = next(i for i, row in enumerate(lines(run)) if row["updates"])
    finished = sum(bool(row["is_last"]) for row in stream(run)[:40])
    assert run.began == lines(run)[first]["step"] == 40 - finished      # 32 windows of 9 rows: 40 rows


def test_observations_are_standardised_by_the_prefill():
    run = Run(tiny(eval_every=1000))
    run.train()
    rows, seen = stream(run), None
    for used in range(1, len(rows)):        # the rows there were when training began
        if sum(not row["is_last"] for row in rows[:used]) == run.began:
            used += int(rows[used]["is_last"])
            seen = torch.stack([row["obs_vector"] for row in rows[:used]])
            break
    for agent in (run.learner.agent, run.learner.average):
        torch.testing.assert_close(agent.world_model.standardize.mean, seen.mean(0))
        torch.testing.assert_close(agent.world_model.standardize.std, seen.std(0, correction=0))


def test_a_loss_that_is_not_finite_stops_the_run(monkeypatch):
    update = Learner.update

    def broken(learner, batch, state):
        metrics, latents = update(learner, batch, state)
        return {**metrics, "loss_rec": torch.tensor(float("nan"))}, latents
    monkeypatch.setattr(Learner, "update", broken)
    with pytest.raises(DivergenceError, match="loss_rec is nan at environment step 35"):
        Run(tiny()).train()


# ------------------------------------------------------------------ evaluation

def test_evaluations_do_not_touch_the_training_run():
    plain = run_of(eval_every=10_000, output="a")
    often = run_of(eval_every=5, eval_episodes=3, output="b")
    assert len(often.evaluations) == 16 and not plain.evaluations
    assert without_times(plain) == without_times(often)
    assert plain.summary["final"] == often.summary["final"]


class Scripted:
    """An agent that does what `choose` says; stands in for Agent in evaluate."""

    def __init__(self, choose):
        self.choose, self.seen, self.world_model = choose, [], self
        self.rssm = self

    def initial(self, batch):
        return torch.zeros(batch, 1), torch.zeros(batch, 1, 1)

    def act(self, obs, state, prev_action, is_first, draw, greedy):
        self.seen.append((obs["vector"].clone(), is_first.clone(), greedy))
        choice = torch.as_tensor(self.choose(obs["vector"]))
        return torch.nn.functional.one_hot(choice, 3).float(), state


def test_processes_are_for_evaluations_that_draw_and_not_for_too_many_episodes(monkeypatch):
    asked = []
    monkeypatch.setattr(loop, "evaluate", lambda *args: asked.append(args[-2:]) or [0.0])
    for env, wanted in (("ToyCounter", (False, 7.0)), ("ToyMixed", (True, 7.0))):
        run = Run(tiny(env=f"toys:{env}-v0", async_envs=True, env_timeout=7.0))
        run.scores(2, 0)
        run.envs.close()
        assert asked[-2:] == [wanted] * 2
    for episodes, kind in ((2, "AsyncVectorEnv"), (3, "SyncVectorEnv")):
        monkeypatch.setattr(evaluation, "PROCESSES", 2)
        made, close = [], Environments.close
        monkeypatch.setattr(Environments, "close", lambda self, **how: made.append(type(self.envs).__name__) or close(self, **how))
        assert len(evaluate(None, "toys:ToyMixed-v0", episodes, 0, True, "cpu", True, 60)) == episodes
        monkeypatch.setattr(Environments, "close", close)
        assert made == [kind]


def test_evaluation_plays_exactly_one_episode_in_each_environment():
    """Episodes of 1 to 8 steps: all of them count, the long ones in full, no second ones."""
    agent = Scripted(lambda vector: torch.full((len(vector),), 2))
    returns = evaluate(agent, "toys:ToyCounter-v0", 12, seed=3, greedy=True)
    lengths = [0] * 12
    for i in range(12):         # follow each environment's first episode by its name
        name = agent.seen[0][0][i, 0]
        lengths[i] = sum(bool(vector[i, 0] == name) for vector, _, _ in agent.seen)
    assert len(set(lengths)) > 3
    assert returns == [sum(10 * t + 2 for t in range(1, n + 1)) for n in lengths]
    for vector, first, greedy in agent.seen:
        assert torch.equal(first, vector[:, 1] == 0) and greedy


def test_an_evaluation_ends_even_if_the_episodes_do_not(monkeypatch):
    monkeypatch.setattr("dreamer.training.evaluate.LONGEST", 20)
    agent = Scripted(lambda vector: torch.zeros(len(vector), dtype=torch.long))
    assert evaluate(agent, "toys:ToyEndless-v0", 2, seed=0, greedy=True) == [sum(range(0, 210, 10))] * 2


def test_evaluations_are_fresh_and_repeatable():
    def returns(seed):
        return evaluate(Scripted(lambda v: v[:, 0].long() % 3), "toys:ToyCounter-v0", 6, seed, greedy=False)
    assert returns(1) == returns(1) != returns(2)


def test_every_evaluation_meets_other_episodes_and_the_averaged_weights_play(monkeypatch):
    seeds, agents, modes = [], [], []

    def fake(agent, env, episodes, seed, greedy, device, *processes):
        modes.append(greedy)
        seeds.append(seed)
        agents.append(agent)
        return [1.0] * episodes
    monkeypatch.setattr("dreamer.training.loop.evaluate", fake)
    run = run_of()
    assert len(set(seeds)) == 5 and len(seeds) == 10        # four evaluations and the final one, two modes each
    assert modes == [True, False] * 5 and set(run.summary["final"]) == {"greedy", "sampled"}
    assert run.config.seed not in seeds                     # whose episodes are those that were trained on
    assert all(agent is run.learner.average for agent in agents)


# ------------------------------------------------------------------ seeds and records

def test_a_seed_fixes_everything_and_another_seed_changes_it():
    one, two, other = run_of(output="a"), run_of(output="b"), run_of(output="c", seed=1)
    assert without_times(one) == without_times(two)
    assert one.summary["evaluations"] == two.summary["evaluations"]
    assert without_times(one)[-1] != without_times(other)[-1]
    assert stream(one)[0]["obs_vector"][0] != stream(other)[0]["obs_vector"][0]


def test_summary_and_metrics_hold_what_they_promise(tmp_path):
    run = run_of(seed=5)
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary == json.loads(json.dumps(run.summary)) and run.folder == tmp_path / "runs" / "toys-ToyCounter-v0-5"
    assert (summary["task"], summary["seed"], summary["size"]) == ("toys:ToyCounter-v0", 5, "1m")
    assert (summary["steps"], summary["updates"]) == (80, run.learner.updates) and summary["seconds"] > 0
    assert summary["config"]["batch_length"] == 8 and summary["config"]["device"] == "cpu"
    assert {"torch", "gymnasium", "numpy", "python"} <= set(summary["versions"]) and summary["command"]
    assert [e["step"] for e in summary["evaluations"]] == [20, 40, 60, 80]
    assert all(len(e[mode]) == 2 for e in summary["evaluations"] for mode in ("greedy", "sampled"))
    assert len(summary["final"]["greedy"]) == len(summary["final"]["sampled"]) == 3
    assert [line["step"] for line in lines(run)] == list(range(7, 81, 7))
    assert lines(run)[0]["updates"] == 0 and "loss_rec" not in lines(run)[0]
    assert {"loss_rec", "loss_policy", "loss_value", "return", *TIMING} <= set(lines(run)[-1])
    table = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").split("### Every logged metric")[1].split("\n## ")[0]
    explained = {key for row in re.findall(r"^\| (`.*?) \|", table, re.M) for key in re.findall(r"`(\w+)`", row)}
    assert explained == set(lines(run)[-1])


def test_the_logged_return_is_the_mean_of_the_last_episodes():
    run = run_of(capacity=400, log_every=80)
    returns, total = [], 0.0
    for row in stream(run):
        total += float(row["reward"])
        if row["is_last"]:
            returns.append(total)
            total = 0.0
    assert lines(run)[-1]["return"] == pytest.approx(np.mean(returns[-20:]))


def test_quiet_runs_print_nothing(capfd, monkeypatch):
    run_of()
    assert capfd.readouterr() == ("", "")
    monkeypatch.delenv("DREAMER_QUIET")
    run_of(output="loud")
    assert "step 80: mean return greedy" in capfd.readouterr().out


@pytest.mark.parametrize("most, said", [(0.9604, "greedy 0.480, sampled 0.250"), (9.0, "greedy 4.5, sampled 0.2")])
def test_an_evaluation_is_told_with_as_many_decimals_as_it_takes(most, said, capfd, monkeypatch):
    monkeypatch.delenv("DREAMER_QUIET")
    run = Run(tiny(output="said"))
    run.scores = lambda episodes, seed: {"greedy": [0.0, most], "sampled": [0.0, 0.5]}
    run.evaluate()
    assert said in capfd.readouterr().out
