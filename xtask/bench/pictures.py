"""Crops of natural pictures, prepared as the networks want them."""

import numpy as np
from PIL import Image

import weights

IMAGENET = (np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32))
EFFICIENTNET = (np.full(3, 127.0, np.float32), np.full(3, 128.0, np.float32))


def crops(cache, count, size, scale, seed):
    """`count` random crops as [count, 3, size, size]; `scale` is the mean and deviation per channel, of pixels 0 to 255."""
    rng = np.random.default_rng(seed)
    sources = [Image.open(path).convert("RGB") for path in weights.fetch("scikit-learn", cache)]
    images = []
    for index in range(count):
        source = sources[index % len(sources)]
        side = int(rng.integers(min(source.size) // 4, min(source.size)))
        left, top = (int(rng.integers(0, length - side + 1)) for length in source.size)
        crop = source.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        images.append((np.asarray(crop, np.float32) - scale[0]) / scale[1])
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
