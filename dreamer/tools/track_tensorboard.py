"""TensorBoard: event files in tensorboard/ of the run's folder. `tensorboard --logdir runs` shows all runs."""

import json
import warnings

from PIL import Image

from ..training.paths import shown


class Tracker:
    """See tracking.py. What lies beyond the checkpoint of a resumed run is taken back."""
    rewinds, key = True, None

    def __init__(self, folder, name, config, key, step):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.utils.tensorboard import SummaryWriter
        self.look = f"tensorboard --logdir {shown(folder / 'tensorboard')}"
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else 0)
        self.writer.add_text("config", f"```json\n{json.dumps(config, indent=1)}\n```", step)
        self.writer.flush()

    def scalars(self, numbers, step):
        for name, number in numbers.items():
            self.writer.add_scalar(name, number, step)
        self.writer.flush()

    def picture(self, name, path, step):
        """As it is: a GIF moves in the browser."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        width, height = Image.open(path).size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
        self.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
        self.writer.flush()

    def close(self):
        self.writer.close()
