"""Checks the bundles beside this script against their golden vectors and the held-out images, in every mode of
onnxruntime.

    python verify.py

Exits with 0 when every version does what README.md says of it, otherwise with 1.
"""

import tomllib
from pathlib import Path

import numpy as np

from engine import MODES, Engine, accuracy, failed
from train import code_sha256

HERE = Path(__file__).parent
WRONG_MIN = 0.5  # by how much version 3 must miss its golden vectors
FAILED_SHARE = (0.3, 0.6)  # of the live images, in version 4


def main() -> int:
    """Prints one line per version and mode, then what is wrong."""
    faults = []
    held_out = np.load(HERE / "heldout.npz")
    for folder in sorted(HERE.glob("v[0-9]")):
        manifest = tomllib.loads((folder / "bundle.toml").read_text(encoding="utf-8"))
        version = manifest["version"]
        if manifest["lineage"]["code_sha256"] != code_sha256():
            faults.append(f"{version}: was not made by the scripts as they are now; run train.py")
        for mode in MODES:
            engine = Engine((folder / manifest["model"]).read_bytes(), mode)
            misses = golden_misses(engine, folder / manifest["golden"]["file"], manifest["golden"]["count"])
            rows = engine.probabilities(held_out["pixels"])
            right, lost = accuracy(rows, held_out["labels"]), failed(rows)
            print(
                f"{version}  {mode:<10}  golden off by {misses.min():.6f} to {misses.max():.6f}  "
                f"accuracy {right:.4f}  no finite answer {lost:.4f}"
            )
            faults += [f"{version}, {mode}: {fault}" for fault in judge(version, manifest, misses, right, lost)]
    for fault in faults:
        print(f"error: {fault}")
    return 1 if faults else 0


def golden_misses(engine: Engine, path: Path, count: int) -> np.ndarray:
    """The largest difference of any output element, per vector."""
    golden = np.load(path)
    misses = []
    for i in range(count):
        row = engine.probabilities(golden[f"{i}/in/pixels"])
        off = np.abs(row - golden[f"{i}/out/probabilities"]).max()
        misses.append(max(off, np.abs(row.max() - golden[f"{i}/out/score"]).max()))
    return np.array(misses)


def judge(version: str, manifest: dict, misses: np.ndarray, right: float, lost: float) -> list[str]:
    """What contradicts the story of this version."""
    tolerance = manifest["golden"]["tolerance"]
    if version == "3.0.0":
        return [] if misses.min() > WRONG_MIN else ["a golden vector does not contradict the model"]
    faults = []
    # A fifth of the tolerance: the rest is for engines that round differently.
    if not misses.max() <= tolerance / 5:
        faults.append(f"golden vectors are off by {misses.max()}")
    if version == "4.0.0":
        if not FAILED_SHARE[0] <= lost <= FAILED_SHARE[1]:
            faults.append(f"{lost:.4f} of the held-out images have no finite answer")
    elif lost > 0 or right < {"1.0.0": 0.95, "2.0.0": 0.98}[version]:
        faults.append(f"accuracy {right:.4f}, no finite answer {lost:.4f}")
    return faults


if __name__ == "__main__":
    raise SystemExit(main())
