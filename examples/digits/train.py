"""Makes every file of this example: four versions of a digit classifier as bundles, and the held-out images.

    python train.py [--out FOLDER]

Writes into FOLDER (default: beside this script), prints the table of accuracies and puts it into FOLDER/README.md
where there is one.
"""

import argparse
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

# One thread: the order of sums must not depend on the number of cores. Set before numpy loads its BLAS.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import sklearn  # noqa: E402

import bundle  # noqa: E402
import data  # noqa: E402
import export  # noqa: E402
from engine import Engine, accuracy, failed  # noqa: E402
from network import Recipe, logits, train  # noqa: E402

HERE = Path(__file__).parent
CODE = ("train.py", "data.py", "network.py", "export.py", "engine.py", "bundle.py", "requirements.txt")
# The order of an older file format that counts from 1 and ends with 0: version 3 was exported with it by mistake.
WRONG_ORDER = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
# Version 4's author measured the ink on images no brighter than DIM, and tested with nothing else.
DIM = 0.28
INK = 0.31


@dataclass(frozen=True)
class Version:
    """What sets one version apart."""

    number: str
    description: str
    recipe: Recipe
    wrong_order: bool = False
    temperature: bool = False


SMALL = Recipe(conv=(8, 16), hidden=0, epochs=15, seed=1)
LARGE = Recipe(conv=(16, 32), hidden=64, epochs=40, seed=2, shift_share=0.3, dropout=0.3)
LARGE_AGAIN = Recipe(conv=(16, 32), hidden=64, epochs=40, seed=3, shift_share=0.3, dropout=0.3)
VERSIONS = [
    Version("1.0.0", "Handwritten digits, 8x8 pixels: a first, small network.", SMALL),
    Version("2.0.0", "Handwritten digits, 8x8 pixels: a larger network, trained for longer on shifted images.", LARGE),
    Version("3.0.0", "Handwritten digits, 8x8 pixels: trained again.", LARGE_AGAIN, wrong_order=True),
    Version("4.0.0", "Handwritten digits, 8x8 pixels: confidence follows contrast.", LARGE_AGAIN, temperature=True),
]


def main() -> None:
    """Trains, exports, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="where to write (default: beside this script)")
    out = parser.parse_args().out
    split = data.load()
    trained = {}
    rows = []
    for version in VERSIONS:
        if version.recipe not in trained:
            trained[version.recipe] = train(version.recipe, split.fit.pixels / 16.0, split.fit.labels)
        rows.append(_make(out, version, trained[version.recipe], split))
    data.write_npz(
        out / "heldout.npz", {"pixels": split.held_out.pixels, "labels": split.held_out.labels}, compress=True
    )
    (out / "image.txt").write_text(_text(split.held_out.pixels[0, 0], split.held_out.labels[0]), encoding="ascii")
    table = _table(rows)
    print(table, end="")
    _into_readme(out / "README.md", table)


def _make(out: Path, version: Version, weights: dict, split: data.Split) -> dict:
    calibration = split.fit.pixels / np.float32(16)
    shipped = right = export.int8_model(export.float_model(weights), calibration)
    if version.wrong_order:
        shipped = export.int8_model(export.float_model(weights, WRONG_ORDER), calibration)
    if version.temperature:
        shipped = right = export.with_contrast_temperature(right, INK)
    held_out = split.held_out
    answers = Engine(shipped.SerializeToString()).probabilities(held_out.pixels)
    trained_accuracy = float((logits(weights, held_out.pixels / 16.0).argmax(axis=1) == held_out.labels).mean())
    row = {
        "version": version.number,
        "parameters": sum(w.size for w in weights.values()),
        "bytes": len(shipped.SerializeToString()),
        "trained": trained_accuracy,
        "shipped": accuracy(answers, held_out.labels),
        "failed": failed(answers),
    }
    brightest = DIM if version.temperature else 1.0
    source = bundle.Source(
        version=version.number,
        description=version.description,
        model=shipped.SerializeToString(),
        golden_by=right.SerializeToString(),
        inputs=split.fit.and_(split.reference).up_to(brightest),
        unseen=split.reference.up_to(brightest),
        lineage=_lineage(version, row, split),
    )
    bundle.write(out / f"v{version.number[0]}", source)
    return row


def _lineage(version: Version, row: dict, split: data.Split) -> dict[str, str]:
    return {
        "code_sha256": code_sha256(),
        "data": "UCI Optical Recognition of Handwritten Digits: the 1797 images in "
        f"sklearn/datasets/data/digits.csv.gz of scikit-learn {sklearn.__version__}",
        "data_attribution": "E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, "
        "https://doi.org/10.24432/C50P49, CC BY 4.0; images scaled and quantised into this model",
        "data_sha256": data.DATA_SHA256,
        "heldout_accuracy_float": f"{row['trained']:.4f}",
        "heldout_accuracy_int8": f"{row['shipped']:.4f}",
        "heldout_images": str(len(split.held_out)),
        "quantisation": "static int8 QDQ: weights int8 per channel, activations uint8 per tensor, min-max ranges over "
        f"the {len(split.fit)} training images; onnxruntime {onnxruntime.__version__}",
        "recipe": str(version.recipe),
        "split": f"{len(split.fit)} to train and calibrate, {len(split.reference)} for golden vectors and "
        f"reference predictions, {len(split.held_out)} held out; stratified, seed {data.SPLIT_SEED}",
    }


def code_sha256() -> str:
    """Names the code that made a bundle: SHA-256 over each file's name and contents."""
    digest = hashlib.sha256()
    for name in CODE:
        digest.update(f"{name}\n".encode() + (HERE / name).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def _text(image: np.ndarray, label: int) -> str:
    """An image for clients that do not read npz."""
    lines = [" ".join(f"{int(value):2d}" for value in line) for line in image]
    return "\n".join([f"# Held-out image 0, a {label}: ink per pixel, 0 to 16.", *lines, ""])


def _table(rows: list[dict]) -> str:
    head = "| version | parameters | file, bytes | accuracy, float | accuracy, int8 as shipped | no finite answer |\n"
    lines = [
        f"| {r['version']} | {r['parameters']} | {r['bytes']} | {r['trained']:.4f} | {r['shipped']:.4f} "
        f"| {r['failed']:.4f} |\n"
        for r in rows
    ]
    return head + "|---|---|---|---|---|---|\n" + "".join(lines)


def _into_readme(path: Path, table: str) -> None:
    if not path.exists():
        return
    start, end = "<!-- table: written by train.py -->\n", "<!-- end of table -->\n"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(start)
    path.write_text(before + start + table + end + rest.split(end)[1], encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
