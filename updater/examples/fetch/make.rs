//! A signed repository of one model.

use clap::Args;
use fastcdc::v2020::StreamCDC;
use semver::Version;
use std::{
    fs,
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
};
use time::{Duration, OffsetDateTime};
use whimbrel_updater::{
    bundle::chunk::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MIN},
    hash::{Sha256, sha256},
    repo::{
        NewTarget, RoleSpec, RootSpec, SigningKey, TargetsEdit, new_root, new_targets, next_targets, sign,
        snapshot, timestamp,
    },
};
use whimbrel_wire::{
    Digest, encode,
    index::{CHUNK_BYTES_MAX, Chunk, FileEntry, Index},
    manifest::Manifest,
};

/// For a measurement the ratio does not matter, the time to make the bundle does.
const ZSTD_LEVEL: i32 = 1;
const BLOCK_BYTES: usize = 4096;

#[derive(Debug, Args)]
pub(crate) struct MakeArgs {
    /// The repository's folder
    #[arg(long)]
    dir: PathBuf,
    /// Size of the model
    #[arg(long, default_value_t = 100)]
    size_mib: u64,
    /// The version to add
    #[arg(long, default_value = "1.0.0")]
    version: Version,
    /// What the bytes are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of the model, at its end, that differs from other versions of the same seed
    #[arg(long, default_value_t = 0.0)]
    change: f64,
}

pub(crate) fn run(args: &MakeArgs) {
    for folder in ["tuf/targets/m", "chunks", "raw"] {
        fs::create_dir_all(args.dir.join(folder)).expect("creates");
    }
    let index = index(args);
    let bytes = encode(&index).expect("a valid index");
    let digest = sha256(&bytes);
    fs::write(args.dir.join(format!("tuf/targets/m/{digest}.{}.wbi", args.version)), &bytes).expect("writes");
    sign_repository(&args.dir, NewTarget::bundle(&index.manifest, bytes.len() as u64, digest));
    println!("{}", serde_json::json!({"bundle": digest, "chunks": index.chunks().count()}));
}

/// Cuts the model into chunks and writes them.
fn index(args: &MakeArgs) -> Index {
    let size_bytes = args.size_mib << 20;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a size, to the byte is not needed"
    )]
    let same_bytes = size_bytes - (size_bytes as f64 * args.change.clamp(0.0, 1.0)) as u64;
    let noise = Noise::new(args.seed).take(same_bytes).chain(
        Noise::new(sha256(args.version.to_string().as_bytes()).as_bytes()[0].into())
            .take(size_bytes - same_bytes),
    );
    let raw = fs::File::create(args.dir.join(format!("raw/{}.bin", args.version))).expect("creates");
    let files = vec![
        file("golden.npz", &b"vectors"[..], std::io::sink(), &args.dir),
        file("model.onnx", noise, BufWriter::new(raw), &args.dir),
    ];
    Index { manifest: manifest(&args.version), files }
}

fn file(path: &str, content: impl Read, mut raw_out: impl Write, dir: &Path) -> FileEntry {
    let mut entry =
        FileEntry { path: path.into(), size_bytes: 0, sha256: Digest::new([0; 32]), chunks: Vec::new() };
    let mut hash = Sha256::default();
    for part in StreamCDC::new(content, CHUNK_BYTES_MIN, CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX as usize) {
        let raw = part.expect("reads").data;
        let stored = zstd::bulk::compress(&raw, ZSTD_LEVEL).expect("compresses");
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).expect("small");
        let chunk = Chunk {
            stored: sha256(&stored),
            stored_bytes: size(&stored),
            raw: sha256(&raw),
            raw_bytes: size(&raw),
        };
        hash.update(&raw);
        raw_out.write_all(&raw).expect("writes");
        fs::write(dir.join(format!("chunks/{}", chunk.stored)), &stored).expect("writes");
        entry.size_bytes += raw.len() as u64;
        entry.chunks.push(chunk);
    }
    entry.sha256 = hash.finish();
    entry
}

fn manifest(version: &Version) -> Manifest {
    let text = format!(
        r#"
        name = "m"
        version = "{version}"
        licence = "MIT"
        model = "model.onnx"
        inputs = [{{ name = "x", datatype = "FP32", shape = [-1] }}]
        outputs = [{{ name = "y", datatype = "FP32", shape = [-1] }}]
        golden = {{ file = "golden.npz", count = 1, tolerance = 0.1 }}
        "#
    );
    toml::from_str(&text).expect("a valid manifest")
}

/// Adds the target to what is signed already, and signs everything above it.
fn sign_repository(dir: &Path, target: NewTarget) {
    let key = SigningKey::from_seed(&[1; 32]);
    let expires = OffsetDateTime::now_utc() + Duration::days(30);
    let tuf = dir.join("tuf");
    let read = |name: &str| fs::read(tuf.join(name)).ok();
    let role = || RoleSpec { keys: vec![key.public()], threshold: 1 };
    let spec = RootSpec { root: role(), targets: role(), snapshot: role(), timestamp: role() };
    let root = read("1.root.json")
        .unwrap_or_else(|| sign(&new_root(&spec, expires).expect("makes"), &key).expect("signs"));
    let newest = |role: &str| (1..).map_while(|n| read(&format!("{n}.{role}.json"))).last();
    let old = newest("targets")
        .unwrap_or_else(|| sign(&new_targets(expires).expect("makes"), &key).expect("signs"));
    let first = newest("targets").is_none();
    let edit = TargetsEdit { add: vec![target], ..TargetsEdit::default() };
    let targets = sign(&next_targets(&old, &edit, expires).expect("makes"), &key).expect("signs");
    let snapshot = snapshot(newest("snapshot").as_deref(), &targets, &key, expires).expect("signs");
    let timestamp =
        timestamp(read("timestamp.json").as_deref(), &snapshot, &key, OffsetDateTime::now_utc(), expires)
            .expect("signs");
    if first {
        fs::write(tuf.join("1.targets.json"), &old).expect("writes");
    }
    for (role, bytes) in [("root", &root), ("targets", &targets), ("snapshot", &snapshot)] {
        let value: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        let version = value["signed"]["version"].as_u64().expect("a version");
        fs::write(tuf.join(format!("{version}.{role}.json")), bytes).expect("writes");
    }
    fs::write(tuf.join("timestamp.json"), &timestamp).expect("writes");
}

/// Endless bytes that neither compress nor repeat.
struct Noise {
    state: u64,
    block: Vec<u8>,
    at: usize,
}

impl Noise {
    fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(2).wrapping_add(1), block: Vec::new(), at: 0 }
    }

    fn refill(&mut self) {
        self.block.clear();
        self.at = 0;
        while self.block.len() < BLOCK_BYTES {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.block.extend_from_slice(&self.state.to_le_bytes());
        }
    }
}

impl Read for Noise {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.block.len() {
            self.refill();
        }
        let len = out.len().min(self.block.len() - self.at);
        out[..len].copy_from_slice(&self.block[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
