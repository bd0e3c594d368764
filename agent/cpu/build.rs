//! A number for the sources that packing depends on: plans in a cache are those of one build.

use std::{env, fs, io, path::Path};

/// Folders with everything between an ONNX file and packed weights, this one's first.
const FOLDERS: [&str; 2] = ["src", "../infer/src"];

fn main() -> io::Result<()> {
    let root = env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?;
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for folder in FOLDERS {
        println!("cargo::rerun-if-changed={folder}");
        add(&Path::new(&root).join(folder), &mut hash)?;
    }
    println!("cargo::rustc-env=WHIMBREL_BUILD={hash:016x}");
    Ok(())
}

/// Adds names and contents of a folder, in the order of names.
fn add(path: &Path, hash: &mut u64) -> io::Result<()> {
    if path.is_dir() {
        let mut entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            fnv(entry.file_name().as_encoded_bytes(), hash);
            add(&entry.path(), hash)?;
        }
    } else {
        fnv(&fs::read(path)?, hash);
    }
    Ok(())
}

/// FNV-1a.
fn fnv(bytes: &[u8], hash: &mut u64) {
    for byte in bytes {
        *hash = (*hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
}
