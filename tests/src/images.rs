//! The held-out images that ship with the example model.

use crate::examples;
use std::path::PathBuf;

/// The file of them.
#[must_use]
pub fn images() -> PathBuf {
    examples().join("digits/heldout.npz")
}

/// Image `index`: 8 rows of 8 pixels, 0 to 16.
///
/// # Panics
/// When the file is not as it should be.
#[must_use]
pub fn pixels(index: usize) -> Vec<f32> {
    let mut archive = npyz::npz::NpzArchive::open(images()).expect("the held-out images are there");
    let all: Vec<f32> =
        archive.by_name("pixels").expect("readable").expect("has pixels").into_vec().expect("float32");
    all[index * 64..][..64].to_vec()
}

/// The digit that image `index` shows.
///
/// # Panics
/// When the file is not as it should be.
#[must_use]
pub fn digit(index: usize) -> String {
    let mut archive = npyz::npz::NpzArchive::open(images()).expect("the held-out images are there");
    let all: Vec<i64> =
        archive.by_name("labels").expect("readable").expect("has labels").into_vec().expect("int64");
    all[index].to_string()
}
