"""The world model alone, on random data: everything a dream needs, and nothing of behaviour (lesson 1)."""

from dataclasses import replace

from .validate import ConfigError

LOG_EVERY, SAVE_EVERY = 50, 500         # updates


def random_only(config):
    """`config` as it counts updates where all steps are random: steps of the prefill earn none, but a step more never earns less."""
    learning = max(config.steps - config.prefill, min(config.steps, config.prefill))
    return replace(config, prefill=config.steps - learning)


def check_enough(run):
    """Raise ConfigError, before anything is deleted, if the steps are less than one sequence and no rows are there already."""
    config = run.config
    least = config.envs * (config.batch_length + 1)
    if config.steps < least and not len(run.replay):
        run.envs.close()
        raise ConfigError(f"--steps {config.steps} is less than one sequence{' in each environment' * (config.envs > 1)}; "
                          f"use at least {least}")


def train_world_model(run):
    """Fill the replay buffer of `run` with config.steps random steps, then train on it at the usual ratio.

    As many updates as a lesson of these steps would make, and not less for few of them (`random_only`). Resumes from
    the checkpoint, if there is one. Returns the averaged agent, of which only the world model has learned anything.
    """
    config, learner = run.config, run.learner
    run.take_up()
    run.collector.begin()
    while run.step < config.steps:
        run.collector.step(random=True)
    if run.began is None:
        run.began = run.step
        run.measure()
    learner.config = random_only(config)
    run.records.total = learner.config.planned_updates
    with run.records.open(learner.updates):
        while learner.updates < run.records.total and not run.enough:
            batch, state, place = run.replay.sample(config.batch_size, run.device)
            metrics, latents = learner.update_world_model(batch, state)
            run.replay.write_back(place, *latents)
            run.records.add(metrics)
            run.records.tick(learner.updates)
            if learner.updates % LOG_EVERY == 0:
                run.tell("log", run.records.write(run.step, learner.updates, run.envs.episodes, run.collector.recent))
            if learner.updates % SAVE_EVERY == 0:
                run.save()
    run.save()
    run.envs.close()
    return learner.average
