"""The world model alone, on random data: everything a dream needs, and nothing of behaviour (lesson 1)."""

LOG_EVERY, SAVE_EVERY = 50, 500         # updates


def train_world_model(run):
    """Fill the replay buffer of `run` with config.steps random steps, then train on it at the usual ratio.

    As many updates as a lesson of these steps would make. Resumes from the checkpoint, if there is one.
    Returns the averaged agent, of which only the world model has learned anything.
    """
    config, learner = run.config, run.learner
    run.take_up()
    run.collector.begin()
    while run.step < config.steps:
        run.collector.step(random=True)
    if run.began is None:
        run.began = run.step
        run.measure()
    run.records.total = config.planned_updates
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
