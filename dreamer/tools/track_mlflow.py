"""MLflow: files in mlruns/ of the run's folder, or wherever $MLFLOW_TRACKING_URI says."""

import os
import time


class Tracker:
    """See tracking.py."""
    rewinds = False

    def __init__(self, folder, name, config, key, step):
        store = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlruns").absolute().as_uri()
        self.look = f"mlflow ui --backend-store-uri {store}"
        if store.startswith("file:"):           # it wants to hear that files are meant
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            self.look = f"MLFLOW_ALLOW_FILE_STORE=true {self.look}"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")           # nothing leaves the machine unasked
        from mlflow import MlflowClient
        self.client = MlflowClient(store)
        self.key = key or self.create(name, config)
        self.client.update_run(self.key, status="RUNNING")
        self.client.log_dict(self.key, config, f"config-step{step}.json")

    def create(self, name, config):
        """A new run in the experiment "dreamer": its id. Parameters cannot change later, as --steps may."""
        found = self.client.get_experiment_by_name("dreamer")
        experiment = found.experiment_id if found else self.client.create_experiment("dreamer")
        tags = {"mlflow.source.git.commit": config["commit"], "mlflow.source.name": config["command"]}
        run = self.client.create_run(experiment, run_name=name, tags=tags)
        from mlflow.entities import Param
        self.client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in config.items() if v != ""])
        return run.info.run_id

    def scalars(self, numbers, step):
        from mlflow.entities import Metric
        now = int(1000 * time.time())
        self.client.log_batch(self.key, [Metric(name, number, now, step) for name, number in numbers.items()])

    def picture(self, name, path, step):
        self.client.log_artifact(self.key, str(path))

    def close(self):
        self.client.set_terminated(self.key)
