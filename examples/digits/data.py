"""The images, their split, and npz files that come out the same each time."""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn.datasets
from sklearn.model_selection import train_test_split

DATA_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
SPLIT_SEED = 2024
HELD_OUT = 540
REFERENCE = 260


@dataclass(frozen=True)
class Part:
    """Some of the images: raw pixels 0..16 as float32 [N, 1, 8, 8], and their digits as int64 [N]."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def and_(self, other: "Part") -> "Part":
        """Both parts' images."""
        return Part(np.concatenate([self.pixels, other.pixels]), np.concatenate([self.labels, other.labels]))

    def up_to(self, brightness: float) -> "Part":
        """The images whose mean, scaled to 0..1, is at most `brightness`."""
        keep = self.pixels.mean(axis=(1, 2, 3)) / 16 <= brightness
        return Part(self.pixels[keep], self.labels[keep])


@dataclass(frozen=True)
class Split:
    """`fit` trains and calibrates; `reference` is what golden vectors and distributions are taken from; `held_out`
    only measures accuracy and plays live traffic."""

    fit: Part
    reference: Part
    held_out: Part


def load() -> Split:
    """The 1797 images, split by a fixed seed with the same share of each digit in all parts."""
    source = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != DATA_SHA256:
        raise SystemExit(f"error: reading {source}: SHA-256 is {found}, expected {DATA_SHA256}")
    digits = sklearn.datasets.load_digits()
    pixels, labels = digits.images[:, None].astype(np.float32), digits.target.astype(np.int64)
    rest, held_out = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, random_state=SPLIT_SEED, stratify=labels
    )
    fit, reference = train_test_split(rest, test_size=REFERENCE, random_state=SPLIT_SEED, stratify=labels[rest])
    return Split(*(Part(pixels[i], labels[i]) for i in (fit, reference, held_out)))


def write_npz(path: Path, arrays: dict[str, np.ndarray], compress: bool = False) -> None:
    """Like numpy.savez, but without time stamps."""
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, array in arrays.items():
            body = io.BytesIO()
            np.lib.format.write_array(body, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), body.getvalue(), method)
