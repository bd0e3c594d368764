"""Asks a model on the agent which digit an image shows, through the public Open Inference Protocol client.

    python classify.py --index 3
    python classify.py --index 0 --count 100 --mode json --json

Exits with 0 when every image was answered, 1 when the agent could not be reached or refused, 2 on bad usage or a bad
image file.
"""

import argparse
import json
import sys
from http.client import HTTPException
from pathlib import Path

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

IMAGES = Path(__file__).parent.parent / "digits" / "heldout.npz"
SHAPE = (1, 8, 8)
OUTPUTS = ("label", "score", "probabilities")


class Failure(Exception):
    """What went wrong, what may help, and the exit code that says so."""

    def __init__(self, error: str, hint: str | None = None, exit_code: int = 1):
        super().__init__(error)
        self.hint = hint
        self.exit_code = exit_code


def load_images(path: Path, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` images [count, 1, 8, 8] and their digits [count], from image `first` on."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pixels, labels = arrays["pixels"], arrays["labels"]
    except (OSError, ValueError, KeyError) as why:
        raise Failure(f"reading images from {path}: {why}", "name an .npz file with --images", 2) from why
    if pixels.shape[1:] != SHAPE or len(labels) != len(pixels):
        raise Failure(f"reading images from {path}: 'pixels' is {pixels.shape}, expected [N, 1, 8, 8] and N labels", None, 2)
    if first < 0 or count < 1 or first + count > len(pixels):
        raise Failure(f"reading images from {path}: images {first} to {first + count - 1} of {len(pixels)}", None, 2)
    return pixels[first : first + count].astype(np.float32), labels[first : first + count]


def connect(url: str, timeout_s: float) -> InferenceServerClient:
    """A client for `url`: HOST:PORT or http://HOST:PORT."""
    if "://" in url and not url.startswith("http://"):
        raise Failure(f"connecting to {url}: only http:// is spoken here", None, 2)
    return InferenceServerClient(
        url.removeprefix("http://").rstrip("/"), connection_timeout=timeout_s, network_timeout=timeout_s
    )


def check_ready(client: InferenceServerClient, model: str, version: str) -> dict:
    """The model's metadata, once the agent and the model say that they are ready."""
    if not client.is_server_ready():
        raise Failure("asking the agent: it is not ready", "see whimbrel-agent doctor")
    if not client.is_model_ready(model, version):
        which = f"{model!r} {version}" if version else repr(model)
        raise Failure(f"asking for model {which}: it is not ready", "is it installed on this device?")
    metadata = client.get_model_metadata(model, version)
    names = {output["name"] for output in metadata["outputs"]}
    missing = [name for name in OUTPUTS if name not in names]
    if missing:
        raise Failure(f"asking for model {model!r}: it has no output {', '.join(missing)}", "is it a digits model?")
    return metadata


def classify(client: InferenceServerClient, model: str, version: str, image: np.ndarray, binary: bool) -> dict:
    """One answer for `image` [1, 8, 8], with the tensors as binary data or as JSON numbers."""
    pixels = InferInput("pixels", [1, *SHAPE], "FP32")
    pixels.set_data_from_numpy(image[None], binary_data=binary)
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
    result = client.infer(model, [pixels], model_version=version, outputs=outputs)
    response = result.get_response()
    label = result.as_numpy("label").reshape(-1)[0]
    return {
        "label": label.decode() if isinstance(label, bytes) else str(label),
        "score": float(result.as_numpy("score").reshape(-1)[0]),
        "probabilities": [float(p) for p in result.as_numpy("probabilities").reshape(-1)],
        "model_version": response.get("model_version"),
        "fallback": bool(response.get("parameters", {}).get("fallback", False)),
    }


def ask(arguments: argparse.Namespace) -> dict:
    """Everything that the command line asks for, as one object."""
    pixels, digits = load_images(arguments.images, arguments.index, arguments.count)
    client = connect(arguments.url, arguments.timeout)
    try:
        metadata = check_ready(client, arguments.model, arguments.model_version)
        results = []
        for i, (image, digit) in enumerate(zip(pixels, digits, strict=True)):
            answer = classify(client, arguments.model, arguments.model_version, image, arguments.mode == "binary")
            results.append({"index": arguments.index + i, "expected": str(digit), **answer})
    except InferenceServerException as why:
        raise Failure(f"asking {arguments.url} for model {arguments.model!r}: {why}") from why
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError, IndexError) as why:
        # Sockets fail with OSError, HTTP with HTTPException; the rest is what the client raises on an answer that is not the protocol's.
        raise Failure(
            f"asking {arguments.url} for model {arguments.model!r}: {type(why).__name__}: {why}",
            "is whimbrel-agent serving that model there?",
        ) from why
    finally:
        client.close()
    right = sum(result["label"] == result["expected"] for result in results)
    return {
        "model": metadata["name"],
        "mode": arguments.mode,
        "results": results,
        "accuracy": right / len(results),
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="127.0.0.1:8350", help="where the agent listens (default: %(default)s)")
    parser.add_argument("--model", default="digits", help="the model's name (default: %(default)s)")
    parser.add_argument("--model-version", default="", metavar="V", help="exactly this version (default: what serves)")
    parser.add_argument("--images", type=Path, default=IMAGES, metavar="NPZ", help="arrays 'pixels' and 'labels'")
    parser.add_argument("--index", type=int, default=0, metavar="I", help="the first image (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="how many images (default: %(default)s)")
    parser.add_argument("--mode", choices=("binary", "json"), default="binary", help="how tensors travel")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    try:
        answer = ask(arguments)
    except Failure as failure:
        _print_failure(failure, arguments.json)
        return failure.exit_code
    if arguments.json:
        print(json.dumps(answer))
        return 0
    for result in answer["results"]:
        note = " (answered by the previous version)" if result["fallback"] else ""
        print(
            f"image {result['index']}: {result['label']} with score {result['score']:.4f}, expected "
            f"{result['expected']}, version {result['model_version']}{note}"
        )
    if len(answer["results"]) > 1:
        print(f"accuracy {answer['accuracy']:.4f} over {len(answer['results'])} images")
    return 0


def _print_failure(failure: Failure, as_json: bool) -> None:
    if as_json:
        body = {"error": str(failure), "hint": failure.hint, "exit_code": failure.exit_code}
        print(json.dumps(body), file=sys.stderr)
        return
    print(f"error: {failure}", file=sys.stderr)
    if failure.hint:
        print(f"hint: {failure.hint}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
