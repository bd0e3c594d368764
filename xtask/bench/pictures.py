"""Crops of natural pictures, prepared as the networks want them."""

import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import weights

IMAGENET = (np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32))
EFFICIENTNET = (np.full(3, 127.0, np.float32), np.full(3, 128.0, np.float32))


LETTERS = np.array(list(string.ascii_letters + string.digits))


def crops(cache, count, seed, size, scale, text=False):
    """`count` random crops as [count, 3, size, size]; `scale` is the mean and deviation per channel, of pixels 0 to 255.

    With `text`, lines of random words are drawn onto each.
    """
    rng = np.random.default_rng(seed)
    sources = [Image.open(path).convert("RGB") for path in weights.fetch("scikit-learn", cache)]
    images = []
    for index in range(count):
        image = crop(sources[index % len(sources)], size, rng)
        if text:
            write(image, rng)
        images.append((np.asarray(image, np.float32) - scale[0]) / scale[1])
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def crop(source, size, rng):
    side = int(rng.integers(min(source.size) // 4, min(source.size)))
    left, top = (int(rng.integers(0, length - side + 1)) for length in source.size)
    image = source.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def write(image, rng):
    draw, size = ImageDraw.Draw(image), image.size[0]
    for _ in range(int(rng.integers(3, 9))):
        words = ["".join(rng.choice(LETTERS, int(rng.integers(2, 9)))) for _ in range(int(rng.integers(1, 4)))]
        place = tuple(int(at) for at in rng.integers(0, size * 9 // 10, 2))
        colour = tuple(int(level) for level in rng.choice([0, 32, 224, 255], 3))
        font = ImageFont.load_default(size=float(rng.integers(14, 44)))
        draw.text(place, " ".join(words), fill=colour, font=font)
