"""Weights & Biases: online for who is logged in, else offline in wandb/ of the run's folder, for `wandb sync` later.

Its own environment variables count, such as WANDB_MODE and WANDB_PROJECT.
"""

import os
import uuid

from ..training.paths import shown
from ..training.records import quiet


class Tracker:
    """See tracking.py. Each stretch of an offline run is a folder of its own under the same run id."""
    rewinds = False

    def __init__(self, folder, name, config, key, step):
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")         # nothing leaves the machine unasked
        import wandb
        self.wandb, self.key = wandb, key or uuid.uuid4().hex[:8]
        mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")
        self.run = wandb.init(
            dir=str(folder), name=name, id=self.key, resume="allow", mode=mode, config=config, reinit="create_new",
            project=os.environ.get("WANDB_PROJECT", "dreamer"),
            settings=wandb.Settings(silent=quiet() or mode == "offline", console="off"))
        self.look = f"wandb sync {shown(folder / 'wandb' / 'offline-run-*')}" if mode == "offline" else self.run.url
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def scalars(self, numbers, step):
        self.run.log({**numbers, "step": step})

    def picture(self, name, path, step):
        film = path.suffix == ".gif"
        shown = self.wandb.Video(str(path), format="gif") if film else self.wandb.Image(str(path))
        self.run.log({name: shown, "step": step})

    def close(self):
        self.run.finish()
