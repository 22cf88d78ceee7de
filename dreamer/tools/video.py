"""Moving pictures as files: GIF by Pillow, MP4 by imageio-ffmpeg, an optional package."""

import itertools
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from ..training.validate import ConfigError
from ..visual.render import save_gif


def check(path):
    """Raise ConfigError unless a film can be written to `path`: better before it is made than after."""
    path = Path(path)
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise ConfigError(f"a film is a .gif or an .mp4, not {path.name}")
    if path.suffix.lower() == ".mp4":
        encoder()
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder")


def encoder():
    """The package imageio_ffmpeg, which brings ffmpeg with it. Raises ConfigError."""
    try:
        import imageio_ffmpeg
    except ImportError:
        raise ConfigError("an .mp4 needs the package imageio-ffmpeg, a .gif needs nothing: "
                          "pip install imageio-ffmpeg") from None
    return imageio_ffmpeg


def save(images, path, fps):
    """Write images (PIL, of one size, any iterable) to `path`, so many a second. A kill leaves no half file there.

    Raises ConfigError if the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(f"{path.stem}.part{path.suffix}")         # the suffix tells both writers the format
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (save_gif_at if path.suffix.lower() == ".gif" else save_mp4)(images, part, fps)
        os.replace(part, path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):         # the folder itself may be none
            part.unlink(missing_ok=True)


def save_gif_at(images, path, fps):
    """Viewers show no more than 50 pictures a second: of faster films only every second, third ... one is kept."""
    step = -(-fps // 50)
    save_gif(list(itertools.islice(images, 0, None, int(step))), path, max(20, round(1000 * step / fps)))


def save_mp4(images, path, fps):
    """One image after the other: memory holds no more than one."""
    images = iter(images)
    first = even(next(images))
    writer = encoder().write_frames(path, first.size, fps=fps, quality=7, macro_block_size=2, ffmpeg_log_level="error")
    writer.send(None)
    try:
        for image in itertools.chain([first], map(even, images)):
            writer.send(np.ascontiguousarray(image))
    finally:
        writer.close()


def even(image):
    """RGB, with an even width and height as the usual encoding of an MP4 needs: a black edge is added if need be."""
    width, height = (size + size % 2 for size in image.size)
    if image.mode == "RGB" and image.size == (width, height):
        return image
    whole = Image.new("RGB", (width, height))
    whole.paste(image)
    return whole
