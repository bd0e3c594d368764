"""A small convolutional network in numpy, with its own backpropagation.

Arrays are float64 and laid out [N, C, H, W]. Double precision keeps what a differing BLAS build changes far below what
the export to int8 can resolve.
"""

from dataclasses import dataclass

import numpy as np

KERNEL = 3


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how long."""

    conv: tuple[int, int]  # channels of the two convolutions
    hidden: int  # units of the dense layer before the classes; 0 for none
    epochs: int
    seed: int
    shift_share: float = 0.0  # share of the images moved by up to one pixel
    dropout: float = 0.0  # on the flattened features
    batch: int = 32
    rate: float = 2e-3
    decay: float = 1e-4


def train(recipe: Recipe, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Fits a network to `images` [N, 1, 8, 8] in 0..1 and gives its weights."""
    rng = np.random.default_rng(recipe.seed)
    weights = _init(recipe, rng)
    moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in weights.items()}
    steps = recipe.epochs * -(-len(images) // recipe.batch)
    step = 0
    for _ in range(recipe.epochs):
        order = rng.permutation(len(images))
        for start in range(0, len(order), recipe.batch):
            pick = order[start : start + recipe.batch]
            x = _shift(images[pick], recipe.shift_share, rng)
            grads = _gradients(weights, x, labels[pick], recipe.dropout, rng)
            step += 1
            rate = recipe.rate * 0.5 * (1 + np.cos(np.pi * step / steps))
            _adam(weights, grads, moments, step, rate, recipe.decay)
    return weights


def logits(weights: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Scores [N, 10] of `images`."""
    return _forward(weights, images)[0]


def _init(recipe: Recipe, rng: np.random.Generator) -> dict[str, np.ndarray]:
    first, second = recipe.conv
    flat = second * 4 * 4
    shapes = {"conv1": (first, 1, KERNEL, KERNEL), "conv2": (second, first, KERNEL, KERNEL)}
    if recipe.hidden:
        shapes |= {"hidden": (flat, recipe.hidden), "classes": (recipe.hidden, 10)}
    else:
        shapes["classes"] = (flat, 10)
    weights = {}
    for name, shape in shapes.items():
        convolution = len(shape) == 4
        fan_in = int(np.prod(shape[1:])) if convolution else shape[0]
        weights[f"{name}.w"] = rng.normal(0.0, np.sqrt(2.0 / fan_in), shape)
        weights[f"{name}.b"] = np.zeros(shape[0] if convolution else shape[1])
    return weights


def _shift(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    if share == 0.0:
        return x
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = x.copy()
    for i in np.flatnonzero(rng.random(len(x)) < share):
        dy, dx = rng.integers(0, 3, 2)
        out[i] = padded[i, :, dy : dy + 8, dx : dx + 8]
    return out


def _columns(x: np.ndarray) -> np.ndarray:
    """[N, C, H, W] -> [N, H, W, C * 9]: each output pixel's receptive field, zero padded."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    fields = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(2, 3))
    n, c, h, w = x.shape
    return fields.transpose(0, 2, 3, 1, 4, 5).reshape(n, h, w, c * KERNEL * KERNEL)


def _convolve(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    columns = _columns(x)
    return (columns @ w.reshape(len(w), -1).T + b).transpose(0, 3, 1, 2), columns


def _convolve_back(grad: np.ndarray, columns: np.ndarray, w: np.ndarray):
    rows = grad.transpose(0, 2, 3, 1)
    grad_w = np.tensordot(rows, columns, axes=([0, 1, 2], [0, 1, 2])).reshape(w.shape)
    # The gradient of the input is a convolution with the kernel turned by 180 degrees and its channels swapped.
    turned = w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    grad_x, _ = _convolve(grad, turned, np.zeros(len(turned)))
    return grad_x, grad_w, rows.sum(axis=(0, 1, 2))


def _forward(weights, x, dropout: float = 0.0, rng=None):
    """Scores, and what the backward pass needs of the way there."""
    z1, columns1 = _convolve(x, weights["conv1.w"], weights["conv1.b"])
    z2, columns2 = _convolve(np.maximum(z1, 0), weights["conv2.w"], weights["conv2.b"])
    a2 = np.maximum(z2, 0)
    n, c, h, w = a2.shape
    tiles = a2.reshape(n, c, h // 2, 2, w // 2, 2)
    pooled = tiles.max(axis=(3, 5))
    flat = pooled.reshape(n, -1)
    kept = np.ones_like(flat) if dropout == 0.0 else (rng.random(flat.shape) >= dropout) / (1 - dropout)
    features = flat * kept
    hidden = None
    if "hidden.w" in weights:
        hidden = np.maximum(features @ weights["hidden.w"] + weights["hidden.b"], 0)
    top = features if hidden is None else hidden
    scores = top @ weights["classes.w"] + weights["classes.b"]
    return scores, (z1, columns1, z2, columns2, tiles, pooled, kept, features, hidden)


def _gradients(weights, x, labels, dropout, rng):
    """Gradients of the mean cross entropy."""
    scores, (z1, columns1, z2, columns2, tiles, pooled, kept, features, hidden) = _forward(weights, x, dropout, rng)
    grad = np.exp(scores - scores.max(axis=1, keepdims=True))
    grad /= grad.sum(axis=1, keepdims=True)
    grad[np.arange(len(labels)), labels] -= 1
    grad /= len(labels)
    grads = {}
    top = features if hidden is None else hidden
    grads["classes.w"], grads["classes.b"] = top.T @ grad, grad.sum(axis=0)
    grad = grad @ weights["classes.w"].T
    if hidden is not None:
        grad = grad * (hidden > 0)
        grads["hidden.w"], grads["hidden.b"] = features.T @ grad, grad.sum(axis=0)
        grad = grad @ weights["hidden.w"].T
    grad = (grad * kept).reshape(pooled.shape)
    winners = tiles == pooled[:, :, :, None, :, None]
    shares = winners / winners.sum(axis=(3, 5), keepdims=True)
    grad = (shares * grad[:, :, :, None, :, None]).reshape(z2.shape) * (z2 > 0)
    grad, grads["conv2.w"], grads["conv2.b"] = _convolve_back(grad, columns2, weights["conv2.w"])
    _, grads["conv1.w"], grads["conv1.b"] = _convolve_back(grad * (z1 > 0), columns1, weights["conv1.w"])
    return grads


def _adam(weights, grads, moments, step, rate, decay):
    """One step of AdamW, in place; biases do not decay."""
    for name, w in weights.items():
        first, second = moments[name]
        first += 0.1 * (grads[name] - first)
        second += 0.001 * (grads[name] ** 2 - second)
        if name.endswith(".w"):
            w -= rate * 10 * decay * w
        w -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
