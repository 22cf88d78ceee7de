"""The halves of the algorithm: a world model without behaviour, and behaviour in a world model that no longer learns.

Both learn from rows that are there; no step is taken in the environment for them. Everything else, from the loop to
the checkpoint, is that of a whole run.
"""

from dataclasses import asdict, replace

import torch

from ..config import Config
from ..distributions import Draw
from ..training import checkpoint, cli
from ..training.loop import derived_seed
from ..training.offline import check_enough, train_world_model
from ..training.paths import shown
from ..training.records import versions, write_summary
from ..training.validate import ConfigError, flag

SAME = ("env", "envs", "capacity", "size", "stoch", "blocks", "bins", "unimix", "discount_horizon")
# ... must be those of the checkpoint: they shape its rows and its world model, what comes out of it included
HELD_OUT, LONGEST = 20, 500         # fresh episodes that a mode is judged by; steps of random ones


def load(path):
    """The checkpoint of a run with its rows, a dict. Raises CheckpointError."""
    saved = checkpoint.load(path)
    if not isinstance(saved, dict) or not {"config", "average", "replay"} <= saved.keys():
        raise checkpoint.CheckpointError(f"{path} holds an agent without its replay buffer; this mode needs rows to "
                                         "start from: the checkpoint.pt of a run that was trained here")
    try:
        Config(**saved["config"])
    except TypeError:
        problem = f"{path} was written by another version of the course; train it anew"
        raise checkpoint.CheckpointError(problem) from None
    return saved


def fit(mode, config):
    """`config` as the mode needs it: nothing to collect beside training, in a dream not even random steps before it."""
    if mode == "full":
        return config
    return replace(config, collector="inline", prefill=0 if mode == "dream" else config.prefill)


def check_same(config, saved):
    """Refuse a configuration in which the checkpoint's rows or world model would mean something else."""
    for name in SAME:
        theirs, mine = saved["config"].get(name), getattr(config, name)
        if theirs != mine:
            raise ConfigError(f"the run in --checkpoint has {flag(name)} {theirs}, not {mine}; leave {flag(name)} out")


def claim(run, source):
    """Write down which checkpoint the run begins from, when nothing else can be refused any more.

    Raises ConfigError if the run in its folder began from another.
    """
    mark = run.folder / "source.txt"
    mine = checkpoint.fingerprint(source) if source else ""
    if not run.config.resume:
        checkpoint.remove(run.checkpoint)       # before the mark changes: a kill must not leave it beside another's checkpoint
    if checkpoint.exists(run.checkpoint):
        if mine != (mark.read_text(encoding="utf-8") if mark.exists() else ""):
            raise ConfigError(f"{shown(run.folder)} holds a run that began from another checkpoint, or from another state of it; "
                              "use another --output folder, or --no-resume to start anew")
    elif source:
        mark.write_text(mine, encoding="utf-8")
    else:
        mark.unlink(missing_ok=True)


def take_rows(run, saved):
    """Fill the replay buffer of `run` with the rows of a checkpoint; an episode in progress there was cut off."""
    check_same(run.config, saved)
    run.replay.load_state_dict(saved["replay"])
    run.replay.cut()
    run.replay.fresh.clear()            # no row is newer than the others
    run.replay.generator.manual_seed(run.config.seed)


# ------------------------------------------------------------------ world model alone

def world_model(run, source=None):
    """Train the world model on config.steps random steps, or on the rows of the checkpoint at `source`; report, write
    summary.json."""
    if source:
        take_rows(run, load(source))
        run.envs.steps = run.config.steps       # `train_world_model` has nothing to collect
    check_enough(run)
    claim(run, source)
    try:
        agent = train_world_model(run).cpu()
    except BaseException:
        run.envs.close(interrupted=True)
        raise
    summary = summarise(run, "world-model", {"open loop": open_loop_error(agent, run.config)})
    write_summary(run.folder / "summary.json", summary)
    run.tell("end", summary)
    report(summary, run.folder)


def open_loop_error(agent, config):
    """Errors of the model with closed eyes on random episodes that it has not met (see visual/health.py), or None."""
    from ..visual import health                 # here: matplotlib, which the others do without
    from ..visual.episodes import record
    seed = derived_seed(config.seed, 7)
    fresh = record(None, config.env, HELD_OUT, seed, longest=LONGEST)
    if max(map(len, fresh)) <= health.CONTEXT:
        return None
    return health.open_loop_error(agent, fresh, Draw(torch.Generator().manual_seed(seed)))


def summarise(run, mode, more):
    config = replace(run.config, device=run.device, threads=torch.get_num_threads())
    return {"task": config.env, "seed": config.seed, "size": config.size, "mode": mode, "steps": run.step,
            "updates": run.learner.updates, "seconds": run.records.seconds, "command": run.command,
            "config": asdict(config), "versions": versions(), **more}


def report(summary, folder):
    print(f"\n{summary['task']}, seed {summary['seed']}: {summary['updates']} updates of the world model, "
          f"{summary['seconds'] / 60:.1f} minutes")
    errors = summary["open loop"]
    if errors:
        ahead, last = len(errors["model"]), {name: values[-1] for name, values in errors.items()}
        print(f"{ahead} steps ahead with closed eyes: error {last['model']:.3f} (\"nothing changes\" "
              f"{last['no change']:.3f}, eyes open {last['eyes open']:.3f}), in standard deviations of {HELD_OUT} "
              "fresh random episodes")
    print(f"files: {shown(folder)}/summary.json, metrics.jsonl, checkpoint.pt, config.yaml")


# ------------------------------------------------------------------ actor and critic alone

class Idle:
    """Stands in for the collector where no row is added: steps are counted, so that as many updates are earned as
    in a whole run, and no environment moves."""
    between_episodes, recent = True, []

    def __init__(self, envs):
        self.envs = envs

    def begin(self):
        pass

    def step(self, random):
        self.envs.steps += self.envs.count

    def state_dict(self):
        return {"idle": self.envs.steps}

    def load_state_dict(self, state):
        if "idle" not in state:
            raise checkpoint.CheckpointError("the --output folder holds a run of another mode; use another one")
        self.envs.steps = state["idle"]


def take_world_model(learner, saved):
    """Put the averaged world model of a checkpoint, the one that acted there, in place of the learner's own, for good.

    Without gradients the optimiser leaves it as it is to the last bit, and so does the average of two equal ones.
    """
    weights = {name.removeprefix("world_model."): value.float() for name, value in saved["average"].items()
               if name.startswith("world_model.")}
    for agent in (learner.agent, learner.average):
        agent.world_model.load_state_dict(weights)
        agent.world_model.requires_grad_(False)


def dream(run, source):
    """Train a fresh actor and critic inside the world model of the checkpoint at `source`, from its rows; report, write
    summary.json.

    The environment is asked by the evaluations alone. A step of the run is a step that would have earned as many
    updates: curves of this mode and of a whole run have the same axis.
    """
    saved = load(source)
    take_rows(run, saved)
    take_world_model(run.learner, saved)
    claim(run, source)
    del saved                           # the rows are in memory once more
    run.collector = Idle(run.envs)
    summary = run.train()
    promised = promises(run.learner.average.cpu(), run.config)
    write_summary(run.folder / "summary.json", {**summary, "mode": "dream", "promises": promised})
    cli.report(summary, run.folder)
    if promised:
        print(f"discounted return, mean of {promised['states']} states of fresh episodes: dreams promise "
              f"{promised['dreamed']:.1f}, {promised['real']:.1f} really follow")


def promises(agent, config):
    """What dreams promise and what really follows (see `health.returns`): means, or None if no episode is fit."""
    from ..visual import health
    from ..visual.episodes import record
    seed = derived_seed(config.seed, 7)
    fresh, draw = record(agent, config.env, HELD_OUT, seed, greedy=False), Draw(torch.Generator().manual_seed(seed))
    said = health.returns(agent, fresh, health.posterior(agent, fresh, draw), draw)
    means = {name: float(torch.tensor(said[name]).mean()) for name in ("dreamed", "real")}
    return {"states": len(said["real"]), **means} if said["real"] else None


MODES = {"world-model": world_model, "dream": dream}
