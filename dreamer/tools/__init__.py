"""Tools around the course, behind one command line: python -m dreamer. Nobody needs them to read the algorithm.

  train.py        any Gymnasium task, the whole algorithm or one half of it; modes.py: the two halves
  services.py     early stopping, the best agents, tracking: stopping.py, keeping.py, tracking.py and track_*.py
  evaluate.py     returns of fresh episodes, and films of them
  dream.py        open-loop dreams beside reality
  check.py        what is installed, how fast it is, and whether the tricks work; tricks.py: the four of them
  options.py, yaml_config.py, runs.py, video.py, dream_curves.py      what these share
  configs.py      writes configs/, one YAML file for each lesson and task
"""
