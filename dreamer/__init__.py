"""DreamerV3, readable. An evening's reading, in this order:

The algorithm, from an observation to an update
  config.py                   every hyperparameter, once
  distributions.py            1   symlog, two-hot, unimix categoricals, bounded normal
  layers.py                   2   Linear -> RMSNorm -> SiLU, and the block-diagonal Linear
  world_model/encoder.py      3   observation -> token
  world_model/rssm.py         4   token -> state: posterior and prior, memory h and latent z
  world_model/decoder.py      5   state -> predicted observation
  world_model/model.py        6   reward and continue heads, and the loss of the world model
  behavior/imagination.py     7   the actor, and the dream it acts in
  behavior/returns.py         8   lambda-returns and their percentile scale
  behavior/actor_critic.py    9   what the dream teaches actor and critic
  optimizer.py                10  LaProp with adaptive gradient clipping
  agent.py                    11  acting, and the one loss of everything
  learner.py                  12  one update

What surrounds it (skip it to learn DreamerV3, read it to run DreamerV3)
  training/memory.py          a setting of the C library that makes large tensors cheaper
  training/replay.py          rows of experience, sampled as sequences
  training/envs.py            Gymnasium's tasks in the agent's terms
  training/collect.py         acting and storing
  training/loop.py            act, learn at the train ratio, log, evaluate, save, resume
  training/offline.py         the world model alone, on random data
  training/recorded.py        CUDA: the kernels of an update, recorded and played back
  training/compiled.py        --compile: much of an update by way of torch.compile
  training/shipping.py        agents of runs, and the small ones that come with the course
  training/evaluate.py, checkpoint.py, records.py, paths.py, validate.py, flags.py, bar.py, cli.py
  training/guard.py, workers.py, tasks.py, image_spaces.py    tasks that fail or hang; MiniGrid and the Control Suite; pictures
  training/experiments.py, results.py, tables.py      all runs of the README, and what is made of them

What looks at it
  visual/episodes.py          whole episodes, recorded row by row
  visual/openloop.py          prediction with closed eyes
  visual/figures.py, maps.py, render.py, health.py, curves.py, look.py
  visual/grids.py, walker.py, triptych.py             dreams beside the truth, of lessons 7 and 8

What stands around it
  tools/                      one command line, tracking, sweeps, clusters: python -m dreamer (docs/tools.md)
"""

import os

# Read by the OpenMP of torch when torch is imported, so it stands here. A worker thread that has nothing
# to do spins for this long before it sleeps: with the default it slows the others down, with 0 it wakes late.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
