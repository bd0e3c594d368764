//! Models named on the command line: an `.onnx` file, a bundle's folder, or a `.wbundle`. Nobody's signature is asked
//! for: whoever can name the file can replace it as well.

use crate::failure::{Failure, chain};
use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};
use whimbrel_infer::{Backend, LoadOptions};
use whimbrel_serve::{LoadModelError, LoadedModel};
use whimbrel_updater::{
    bundle::{MANIFEST_FILE, Packed, chunk},
    slots::{INDEX_FILE, InstalledBundle},
};
use whimbrel_wire::{ModelName, manifest::Manifest};

/// Largest accepted `bundle.toml`.
const MANIFEST_BYTES_MAX: u64 = 8 << 20;

/// A model, and what its bundle says about it.
pub(crate) struct Opened {
    pub(crate) model: LoadedModel,
    /// `None` for a bare ONNX file.
    pub(crate) manifest: Option<Manifest>,
}

/// Opens a model. `name`, where given, takes the place of the bundle's own; a bare ONNX file is otherwise called by its
/// file name.
///
/// # Errors
/// It cannot be read (exit code 2), is not valid (2), needs what this build lacks (3), or takes more memory than it may (4).
pub(crate) fn open(
    path: &Path,
    name: Option<&ModelName>,
    backend: &dyn Backend,
    options: &LoadOptions,
) -> Result<Opened, Failure> {
    let attempted = || format!("loading {}", path.display());
    let unreadable = |e: &dyn std::error::Error| Failure::usage(attempted(), chain(e));
    let renamed = |mut manifest: Manifest| {
        if let Some(name) = name {
            manifest.name = name.clone();
        }
        manifest
    };
    let (model, manifest) = if path.is_dir() {
        let (dir, manifest) = (path, renamed(folder_manifest(path)?));
        (LoadedModel::from_bundle(dir, &manifest, backend, options), Some(manifest))
    } else if path.extension().is_some_and(|e| e == "wbundle") {
        let file = File::open(path).map_err(|e| unreadable(&e))?;
        let packed = Packed::read(BufReader::new(file)).map_err(|e| unreadable(&e))?;
        packed.verify_content().map_err(|e| unreadable(&e))?;
        let manifest = renamed(packed.index().manifest.clone());
        let size_bytes = packed.index().file(&manifest.model).map_or(0, |file| file.size_bytes);
        if size_bytes > options.limits.memory_bytes_max {
            let why = format!(
                "its model has {size_bytes} bytes, it may take {} bytes of memory",
                options.limits.memory_bytes_max
            );
            return Err(Failure::refused(attempted(), why).hint(MEMORY_HINT));
        }
        let onnx = content(&packed, &manifest.model).map_err(|why| Failure::usage(attempted(), why))?;
        let loaded = backend
            .load(&onnx, options)
            .map_err(|source| LoadModelError::Load { model: manifest.name.clone(), source });
        (loaded.and_then(|m| LoadedModel::from_parts(&manifest, m, backend.name())), Some(manifest))
    } else {
        let name = name.cloned().unwrap_or_else(|| file_name(path));
        (LoadedModel::from_onnx(name, path, backend, options), None)
    };
    let model = model.map_err(|e| refused(&attempted(), &e))?;
    Ok(Opened { model, manifest })
}

fn refused(attempted: &str, error: &LoadModelError) -> Failure {
    match error {
        LoadModelError::Load { source, .. } if source.is_unsupported() => {
            let failure = Failure::not_supported(attempted, chain(error));
            #[cfg(feature = "gpu")]
            if matches!(source, whimbrel_infer::LoadError::UnsupportedBackend { .. }) {
                return failure.hint(whimbrel_gpu::HOW_TO_GET_ADAPTER);
            }
            failure
        }
        error if error.is_memory() => Failure::refused(attempted, chain(error)).hint(MEMORY_HINT),
        _ => Failure::usage(attempted, chain(error)),
    }
}

/// Where to give a model more memory.
pub(crate) const MEMORY_HINT: &str = "--memory-bytes-max of `run` and `bench`, and for `serve` memory_bytes_max in [model.NAME] or \
    [models] of the configuration, say how much memory a model may take";

/// The manifest of a folder: of an installed bundle, or of one that is being made.
fn folder_manifest(dir: &Path) -> Result<Manifest, Failure> {
    let attempted = || format!("loading {}", dir.display());
    if dir.join(INDEX_FILE).exists() {
        let bundle = InstalledBundle::open(dir).map_err(|e| Failure::usage(attempted(), chain(&e)))?;
        return Ok(bundle.manifest);
    }
    let path = dir.join(MANIFEST_FILE);
    let mut text = String::new();
    let read = File::open(&path).and_then(|f| f.take(MANIFEST_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|e| {
        Failure::usage(attempted(), format!("reading {}: {e}", path.display()))
            .hint("a bundle's folder holds a bundle.toml")
    })?;
    let fail = |why: String| Failure::usage(attempted(), format!("{}: {why}", path.display()));
    let manifest: Manifest = toml::from_str(&text).map_err(|e| fail(e.to_string()))?;
    manifest.validate().map_err(fail)?;
    Ok(manifest)
}

/// The content of one file of a packed bundle.
fn content(packed: &Packed, path: &str) -> Result<Vec<u8>, String> {
    let file = packed.index().file(path).ok_or_else(|| format!("{path} is not among its files"))?;
    let mut bytes = Vec::new();
    for part in &file.chunks {
        let stored =
            packed.chunks().get(&part.stored).ok_or_else(|| format!("a chunk of {path} is missing"))?;
        bytes.extend_from_slice(&chunk::unpack(part, stored).map_err(|e| e.to_string())?);
    }
    Ok(bytes)
}

/// A name made of a file's: what does not fit into a name becomes `-`.
fn file_name(path: &Path) -> ModelName {
    let stem = path.file_stem().map(|s| s.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(64)
        .collect();
    let fallback = "model".parse();
    #[allow(clippy::expect_used, reason = "a constant that is a name")]
    name.parse().or(fallback).expect("`model` is a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_become_names() {
        for (path, name) in [
            ("/a/MobileNet v2.onnx", "mobilenet-v2"),
            ("x.y.onnx", "x-y"),
            ("_.onnx", "model"),
            ("/", "model"),
        ] {
            assert_eq!(file_name(Path::new(path)).as_str(), name, "{path}");
        }
    }

    #[test]
    fn what_is_no_model_is_bad_input_and_named() {
        let dir = tempfile::tempdir().expect("folder");
        let backend = crate::backends::named("auto").expect("there");
        for (name, make) in [("empty-folder", true), ("absent.onnx", false), ("absent.wbundle", false)] {
            let path = dir.path().join(name);
            if make {
                std::fs::create_dir(&path).expect("made");
            }
            let failure = open(&path, None, backend, &LoadOptions::default()).err().expect("refused");
            assert_eq!(failure.exit_code(), 2, "{failure}");
            assert!(failure.to_string().contains(name), "{failure}");
        }
    }
}
