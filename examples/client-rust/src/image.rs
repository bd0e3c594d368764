//! Reads one image out of an npz file.

use anyhow::{Context, Result, bail, ensure};
use npyz::npz::NpzArchive;
use std::{fs::File, io::BufReader, path::Path};

/// Elements of one image.
pub(crate) const PIXELS: usize = 64;

/// One image, and the digit that it shows.
#[derive(Debug, PartialEq)]
pub(crate) struct Image {
    /// Ink per pixel, 0 to 16, row by row.
    pub(crate) pixels: Vec<f32>,
    pub(crate) label: i64,
}

/// Image `index` of the file at `path`.
pub(crate) fn read(path: &Path, index: u64) -> Result<Image> {
    read_arrays(path, index).with_context(|| format!("reading image {index} of {}", path.display()))
}

fn read_arrays(path: &Path, index: u64) -> Result<Image> {
    let mut archive = NpzArchive::open(path)?;
    let pixels = elements(&mut archive, "pixels", &[1, 8, 8], index)?;
    ensure!(pixels.len() == PIXELS, "the image ends early");
    let label = elements(&mut archive, "labels", &[], index)?;
    let [label] = label[..] else { bail!("the label is missing") };
    Ok(Image { pixels, label })
}

/// Entry `index` of array `name`, whose shape must be N, then `rest`.
fn elements<T: npyz::Deserialize>(
    archive: &mut NpzArchive<BufReader<File>>,
    name: &str,
    rest: &[u64],
    index: u64,
) -> Result<Vec<T>> {
    let array = archive.by_name(name)?.with_context(|| format!("there is no array {name:?}"))?;
    let shape = array.shape().to_vec();
    let Some((&count, inner)) = shape.split_first() else { bail!("{name:?} is a single number") };
    ensure!(inner == rest, "{name:?} has shape {shape:?}, expected [N, then {rest:?}]");
    ensure!(array.order() == npyz::Order::C, "{name:?} is stored column by column");
    ensure!(index < count, "it holds images 0 to {}", i128::from(count) - 1);
    let size = usize::try_from(rest.iter().product::<u64>())?;
    let skipped = usize::try_from(index)?.checked_mul(size).context("the index is too large")?;
    let data = array.data::<T>()?;
    Ok(data.skip(skipped).take(size).collect::<std::io::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD_OUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../digits/heldout.npz");

    #[test]
    fn reads_the_image_that_the_text_file_shows() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../digits/image.txt")).unwrap();
        let (head, body) = text.split_once('\n').unwrap();
        let pixels = body.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let image = read(Path::new(HELD_OUT), 0).unwrap();
        assert!(head.contains(&format!("a {}:", image.label)), "{head}");
        assert_eq!(image.pixels, Vec::<f32>::clone(&pixels));
    }

    #[test]
    fn an_index_past_the_end_is_refused() {
        assert_eq!(read(Path::new(HELD_OUT), 539).unwrap().pixels.len(), PIXELS);
        let error = read(Path::new(HELD_OUT), 540).unwrap_err();
        assert!(format!("{error:#}").contains("holds images 0 to 539"), "{error:#}");
        assert!(read(Path::new(HELD_OUT), u64::MAX).is_err());
    }

    #[test]
    fn a_file_that_is_no_archive_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"not an archive").unwrap();
        let error = read(file.path(), 0).unwrap_err();
        assert!(format!("{error:#}").contains("reading image 0 of"), "{error:#}");
    }
}
