//! The held-out images that the demo's apps send, ready as requests.

use crate::error::Failure;
use npyz::npz::NpzArchive;
use serde_json::json;
use std::path::Path;
use whimbrel_wire::manifest::{Datatype, Manifest, TensorSpec};

/// Largest array that is read.
const VALUES_MAX: u64 = 10_000_000;

/// Requests with their right answers.
#[derive(Debug)]
pub(crate) struct Samples {
    model: String,
    label_output: String,
    samples: Vec<Sample>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Body of the inference request.
    pub(crate) body: Vec<u8>,
    /// The right class.
    pub(crate) label: String,
}

impl Samples {
    /// Reads an array named as the model's input, `[N, …]`, and `labels`, `[N]`, from an npz file, for the model that the manifest describes.
    ///
    /// # Errors
    /// Bad input when the file does not fit the model.
    pub(crate) fn read(file: &Path, manifest: &Manifest) -> Result<Self, Failure> {
        let bad = |why: String| {
            Failure::usage(format!("reading the held-out images {}", file.display()), why)
                .hint("name the folder with the digits example with --examples")
        };
        let [input] = &manifest.inputs[..] else { return Err(bad("the model has several inputs".into())) };
        let label_output = manifest.outputs.iter().find(|o| o.datatype == Datatype::Bytes);
        let label_output = label_output.ok_or_else(|| bad("the model gives no label".into()))?.name.clone();
        let mut archive = NpzArchive::open(file).map_err(|e| bad(e.to_string()))?;
        let (values, count) = images(&mut archive, input).map_err(bad)?;
        let labels = labels(&mut archive).map_err(bad)?;
        if labels.len() != count || count == 0 {
            return Err(bad(format!("{count} images and {} labels", labels.len())));
        }
        let size = values.len() / count;
        let mut samples = Vec::with_capacity(count);
        for (image, class) in values.chunks_exact(size).zip(labels) {
            let label = usize::try_from(class).ok().and_then(|c| manifest.labels.get(c));
            let label = label.ok_or_else(|| bad(format!("label {class} is none of the model's")))?.clone();
            samples.push(Sample { body: request(input, image).map_err(bad)?, label });
        }
        Ok(Self { model: manifest.name.to_string(), label_output, samples })
    }

    /// How many there are; at least one.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// The sample at `index`, beginning again after the last.
    pub(crate) fn get(&self, index: usize) -> &Sample {
        &self.samples[index % self.samples.len()]
    }

    /// The model's name.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// The output that names the class.
    pub(crate) fn label_output(&self) -> &str {
        &self.label_output
    }
}

type Archive = NpzArchive<std::io::BufReader<std::fs::File>>;

/// All pixels, and the number of images.
fn images(archive: &mut Archive, input: &TensorSpec) -> Result<(Vec<f32>, usize), String> {
    let array =
        archive.by_name(&input.name).map_err(|e| e.to_string())?.ok_or("no array named as the input")?;
    let shape = array.shape().to_vec();
    let count = *shape.first().ok_or("the images have no dimension")?;
    let total = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).filter(|n| *n <= VALUES_MAX);
    let total = total.ok_or_else(|| format!("the images have more than {VALUES_MAX} values"))?;
    let expected: i64 = input.shape.iter().map(|d| if *d < 0 { 1 } else { *d }).product();
    if count == 0 || i64::try_from(total / count) != Ok(expected) {
        return Err(format!("images of shape {shape:?} do not fit the input's shape {:?}", input.shape));
    }
    // Either data type that such images come in.
    let values = match array.try_data::<f32>() {
        Ok(values) => values.collect::<Result<Vec<f32>, _>>(),
        Err(array) => match array.try_data::<u8>() {
            Ok(values) => values.map(|v| v.map(f32::from)).collect(),
            Err(array) => {
                return Err(format!("the images hold {}, expected float32 or uint8", array.dtype().descr()));
            }
        },
    };
    let values = values.map_err(|e| e.to_string())?;
    Ok((values, usize::try_from(count).map_err(|e| e.to_string())?))
}

fn labels(archive: &mut Archive) -> Result<Vec<i64>, String> {
    let array = archive.by_name("labels").map_err(|e| e.to_string())?.ok_or("no array `labels`")?;
    if array.len() > VALUES_MAX {
        return Err(format!("`labels` has more than {VALUES_MAX} values"));
    }
    let values = match array.try_data::<i64>() {
        Ok(values) => values.collect::<Result<Vec<i64>, _>>(),
        Err(array) => match array.try_data::<u8>() {
            Ok(values) => values.map(|v| v.map(i64::from)).collect(),
            Err(array) => {
                return Err(format!("`labels` holds {}, expected int64 or uint8", array.dtype().descr()));
            }
        },
    };
    values.map_err(|e| e.to_string())
}

/// One image as an Open Inference Protocol request.
fn request(input: &TensorSpec, image: &[f32]) -> Result<Vec<u8>, String> {
    let shape: Vec<i64> = input.shape.iter().map(|d| (*d).max(1)).collect();
    let data = match input.datatype {
        Datatype::Fp32 => json!(image),
        Datatype::Uint8 => json!(image.iter().map(|v| *v as u8).collect::<Vec<_>>()),
        other => return Err(format!("the input takes {other:?}, expected FP32 or UINT8")),
    };
    let body = json!({
        "inputs": [{ "name": input.name, "datatype": input.datatype, "shape": shape, "data": data }],
    });
    serde_json::to_vec(&body).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn digits() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits")
    }

    fn manifest() -> Manifest {
        let packed = whimbrel_updater::bundle::pack(&digits().join("v1")).expect("packs");
        packed.index().manifest.clone()
    }

    #[test]
    fn the_held_out_images_fit_the_model() {
        let samples = Samples::read(&digits().join("heldout.npz"), &manifest()).expect("reads");
        assert_eq!((samples.model(), samples.label_output()), ("digits", "label"));
        assert!(samples.len() >= 500);
        let body: serde_json::Value = serde_json::from_slice(&samples.get(samples.len()).body).expect("JSON");
        assert_eq!(body["inputs"][0]["datatype"], "FP32");
        assert_eq!(body["inputs"][0]["data"].as_array().expect("values").len(), 64);
    }

    #[test]
    fn images_of_another_shape_are_refused() {
        let mut other = manifest();
        other.inputs[0].shape = vec![1, 1, 28, 28];
        let failure = Samples::read(&digits().join("heldout.npz"), &other).expect_err("refused");
        assert!(failure.why.contains("do not fit"), "{failure}");
        assert!(Samples::read(&digits().join("absent.npz"), &manifest()).is_err());
    }
}
