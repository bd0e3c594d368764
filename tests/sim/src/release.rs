//! Bundles to release, with the content that a device must have when it serves them.

use crate::random::Random;
use semver::Version;
use std::collections::BTreeMap;
use whimbrel_updater::{bundle::Packed, bundle::chunk, hash::sha256};
use whimbrel_wire::{
    Digest, ModelName,
    index::{Chunk, FileEntry, Index},
    manifest::{Datatype, Golden, Manifest, Needs, Probation, TensorSpec},
    pipeline::Pipeline,
};

/// Long enough for a torn write of 4 KiB to show, short enough to be quick.
const CHUNK_BYTES: usize = 5000;

/// How a version behaves on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// Well.
    Good,
    /// Its golden vectors give other answers.
    FailsSelfTest,
    /// Its self-test passes, but it cannot serve.
    FailsLoad,
    /// It answers live requests with errors.
    FailsLive,
}

/// A version of the model.
#[derive(Debug, Clone)]
pub struct Release {
    /// The bundle.
    pub packed: Packed,
    /// Every file in it, by its path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// How it behaves.
    pub quality: Quality,
}

/// The one model of the simulation.
///
/// # Panics
/// Never: the name is a good one.
#[must_use]
pub fn model() -> ModelName {
    "m".parse().expect("a good name")
}

impl Release {
    /// A bundle of four chunks in two files: two of noise that depends on the version, one that all versions share, and the
    /// golden vectors in a folder of their own.
    ///
    /// # Panics
    /// Never: the bundle keeps all rules.
    #[must_use]
    pub fn new(version: &Version, quality: Quality) -> Self {
        let mut own = Random::new(version.major * 10_000 + version.minor * 100 + version.patch);
        let parts = [own.noise(CHUNK_BYTES), Random::new(0).noise(CHUNK_BYTES), own.noise(CHUNK_BYTES / 3)];
        let contents = [("golden/vectors.npz", vec![own.noise(64)]), ("model.onnx", parts.to_vec())];
        let (mut files, mut entries, mut chunks) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for (path, parts) in contents {
            let packed: Vec<(Chunk, Vec<u8>)> =
                parts.iter().map(|part| chunk::pack(part).expect("packs")).collect();
            let bytes = parts.concat();
            entries.push(FileEntry {
                path: path.into(),
                size_bytes: bytes.len() as u64,
                sha256: sha256(&bytes),
                chunks: packed.iter().map(|p| p.0).collect(),
            });
            chunks.extend(packed.into_iter().map(|(chunk, stored)| (chunk.stored, stored)));
            files.insert(path.to_owned(), bytes);
        }
        let index = Index { manifest: manifest(version), files: entries };
        Self { packed: Packed::new(index, chunks).expect("a good index"), files, quality }
    }

    /// Which version it is.
    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.packed.index().manifest.version
    }

    /// SHA-256 of its index.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.packed.digest()
    }
}

/// Confirms after ten requests, with at least five, or a minute. Crashes are not what these simulations are about: a power
/// cut during probation counts as one, so many are accepted.
fn manifest(version: &Version) -> Manifest {
    let tensor = |name: &str| TensorSpec { name: name.into(), datatype: Datatype::Fp32, shape: vec![-1] };
    Manifest {
        name: model(),
        version: version.clone(),
        description: String::new(),
        licence: "MIT".into(),
        model: "model.onnx".into(),
        inputs: vec![tensor("x")],
        outputs: vec![tensor("y")],
        pipeline: Pipeline::default(),
        labels: Vec::new(),
        golden: Golden { file: "golden/vectors.npz".into(), count: 1, tolerance: 0.1 },
        needs: Needs::default(),
        probation: Probation {
            requests: 10,
            seconds: 60,
            requests_min: 5,
            error_rate_max: 0.1,
            crashes_max: 1000,
        },
        reference: whimbrel_wire::telemetry::Reference::default(),
        lineage: BTreeMap::new(),
    }
}
