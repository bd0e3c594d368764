"""Unpacks the node cases of ONNX's own backend test: `unpack.py DIR`.

DIR gets a folder named by the versions of ONNX and of this script, unless it has it, in place of any other; its path is
printed. It holds a folder for each case:

    case.json       operator: the one that the case is about; expanded: whether the model spells it out in simpler ones;
                    inexpressible: why values of the case have no counterpart among numpy's arrays, or null
    model.onnx      as ONNX has it
    N.inputs.npz    what data set N gives to the model, by name
    N.outputs.npz   what is to come of it
"""

import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
import zlib

import numpy
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

SAME_IN_NUMPY = {
    getattr(TensorProto, name)
    for name in "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FLOAT16 FLOAT DOUBLE STRING".split()
}


class Inexpressible(Exception):
    """A value that is no array of numpy's own types."""


def array(path, info):
    """The value in a file, which is one of the type that the model gives it."""
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise Inexpressible(kind.removesuffix("_type"))
    with open(path, "rb") as file:
        tensor = onnx.load_tensor_from_string(file.read())
    if tensor.data_type not in SAME_IN_NUMPY:
        raise Inexpressible(TensorProto.DataType.Name(tensor.data_type).lower())
    value = numpy_helper.to_array(tensor)
    return value.astype(str) if value.dtype == object else value


def write(path, arrays):
    """As numpy.savez does, but for any name and always the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in arrays.items():
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w") as file:
                numpy.lib.format.write_array(file, value, allow_pickle=False)


def operator(node):
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def subject(models, name):
    """What a case is about: of one that is spelled out, what the case is about that it is made from."""
    base = re.sub(r"_expanded(_.*|)$", "", name)
    graph = models.get(base, models[name]).graph
    # Where there are several nodes, the plainer ones only make its inputs or read its outputs.
    return operator(max(graph.node, key=lambda node: len(node.attribute)))


def unpack(case, name, about, model, out):
    os.makedirs(out)
    shutil.copyfile(os.path.join(case.model_dir, "model.onnx"), os.path.join(out, "model.onnx"))
    inexpressible = None
    sets = sorted(entry for entry in os.listdir(case.model_dir) if entry.startswith("test_data_set_"))
    for number, folder in enumerate(sets):
        for side, infos in (("input", model.graph.input), ("output", model.graph.output)):
            arrays = {}
            for index, info in enumerate(infos):
                path = os.path.join(case.model_dir, folder, f"{side}_{index}.pb")
                try:
                    arrays[info.name] = array(path, info)
                except Inexpressible as reason:
                    inexpressible = str(reason)
            write(os.path.join(out, f"{number}.{side}s.npz"), arrays)
    about = {"operator": about, "expanded": "_expanded" in name, "inexpressible": inexpressible, "sets": len(sets)}
    with open(os.path.join(out, "case.json"), "w", encoding="utf-8") as file:
        json.dump(about, file)


def main(base):
    with open(__file__, "rb") as file:
        out = os.path.join(base, f"{onnx.__version__}-{zlib.crc32(file.read()):08x}")
    if not os.path.exists(out):
        shutil.rmtree(base, ignore_errors=True)
        os.makedirs(base)
        # Made beside its place and then renamed: a folder that is there is whole.
        with tempfile.TemporaryDirectory(dir=base) as work:
            made = os.path.join(work, "made")
            cases = {case.name: case for case in load_model_tests(kind="node")}
            models = {name: onnx.load(os.path.join(case.model_dir, "model.onnx")) for name, case in cases.items()}
            for name, case in cases.items():
                unpack(case, name, subject(models, name), models[name], os.path.join(made, name))
            os.rename(made, out)
    print(out)


if __name__ == "__main__":
    main(sys.argv[1])
