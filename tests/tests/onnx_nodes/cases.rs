//! The node cases of ONNX's own backend test, as `tests/onnx/unpack.py` lays them out.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};
use whimbrel_infer::{Datatype, Tensor};
use whimbrel_tests::{python, root, run};

/// Tensors by name.
pub(crate) type Tensors = Vec<(String, Tensor)>;

/// One model and what is to come of running it.
pub(crate) struct Case {
    /// Its name, as ONNX has it.
    pub(crate) name: String,
    /// The operator that it is about.
    pub(crate) operator: String,
    /// Whether the model spells that operator out in simpler ones.
    pub(crate) expanded: bool,
    /// Why its values cannot be given to a model here, if so: an element type, or a type that is no tensor.
    pub(crate) inexpressible: Option<String>,
    sets: u64,
    dir: PathBuf,
}

impl Case {
    fn read(dir: PathBuf) -> Self {
        let text = fs::read_to_string(dir.join("case.json")).expect("every case has its description");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        Self {
            name: dir.file_name().expect("a name").to_string_lossy().into_owned(),
            operator: text("operator").expect("names its operator"),
            expanded: json["expanded"] == true,
            inexpressible: text("inexpressible"),
            sets: json["sets"].as_u64().expect("says how many data sets"),
            dir,
        }
    }

    /// The bytes of the model.
    pub(crate) fn model(&self) -> Vec<u8> {
        fs::read(self.dir.join("model.onnx")).expect("every case has a model")
    }

    /// Each data set: what to give to the model, and what is to come of it.
    pub(crate) fn sets(&self) -> impl Iterator<Item = (Tensors, Tensors)> {
        let read = |number, side| read_npz(&self.dir.join(format!("{number}.{side}.npz")));
        (0..self.sets).map(move |number| (read(number, "inputs"), read(number, "outputs")))
    }
}

/// Every case, sorted by name. They are unpacked once for each version of ONNX.
pub(crate) fn all() -> Vec<Case> {
    let script = root().join("tests/onnx/unpack.py");
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx-nodes");
    let printed = run(&python(), [script.as_os_str(), base.as_os_str()]).ok();
    let entries = fs::read_dir(printed.trim()).expect("the script prints where the cases are");
    let mut cases: Vec<Case> = entries.map(|entry| Case::read(entry.expect("readable").path())).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn read_npz(path: &Path) -> Tensors {
    let mut archive = npyz::npz::NpzArchive::open(path).expect("every data set has its arrays");
    let names: Vec<String> = archive.array_names().map(str::to_owned).collect();
    let mut read = |name: String| {
        let mut bytes = Vec::new();
        let mut entry =
            archive.zip_archive().by_name(&npyz::npz::file_name_from_array_name(&name)).expect("listed");
        entry.read_to_end(&mut bytes).expect("readable");
        let tensor = read_npy(&bytes).unwrap_or_else(|| panic!("{}: {name}", path.display()));
        (name, tensor)
    };
    names.into_iter().map(&mut read).collect()
}

/// An array in C order, in a file of version 1: what numpy writes for those that the script makes.
fn read_npy(file: &[u8]) -> Option<Tensor> {
    let header_bytes = usize::from(u16::from_le_bytes([*file.get(8)?, *file.get(9)?]));
    let (header, data) = file.get(10..)?.split_at_checked(header_bytes)?;
    let header = std::str::from_utf8(header).ok()?;
    let descr = header.split_once("'descr': '")?.1.split_once('\'')?.0;
    let shape = header.split_once("'shape': (")?.1.split_once(')')?.0;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<usize> = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
    if let Some(length) = descr.strip_prefix("<U") {
        return strings(shape, data, length.parse().ok()?);
    }
    Tensor::from_le_bytes(datatype(descr)?, shape, data.to_vec()).ok()
}

fn datatype(descr: &str) -> Option<Datatype> {
    Some(match descr {
        "|b1" => Datatype::Bool,
        "|u1" => Datatype::Uint8,
        "<u2" => Datatype::Uint16,
        "<u4" => Datatype::Uint32,
        "<u8" => Datatype::Uint64,
        "|i1" => Datatype::Int8,
        "<i2" => Datatype::Int16,
        "<i4" => Datatype::Int32,
        "<i8" => Datatype::Int64,
        "<f2" => Datatype::Fp16,
        "<f4" => Datatype::Fp32,
        "<f8" => Datatype::Fp64,
        _ => return None,
    })
}

/// Texts of at most `length` characters of four bytes, the rest zeros.
fn strings(shape: Vec<usize>, data: &[u8], length: usize) -> Option<Tensor> {
    let text = |element: &[u8]| {
        let codes = element.as_chunks().0.iter().map(|code| u32::from_le_bytes(*code));
        let text: Option<String> = codes.map(char::from_u32).collect();
        text.map(|text| text.trim_end_matches('\0').as_bytes().to_vec())
    };
    let count = whimbrel_infer::element_count(&shape)?;
    let elements = (0..count).map(|index| data.get(index * length * 4..(index + 1) * length * 4));
    let texts: Option<Vec<Vec<u8>>> = elements.map(|element| text(element?)).collect();
    Tensor::from_strings(shape, texts?).ok()
}
