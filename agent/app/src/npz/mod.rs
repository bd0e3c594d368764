//! Tensors in npz files, as numpy writes and reads them.
//!
//! | numpy | tensor |
//! |---|---|
//! | bool, (u)int8 to (u)int64, float16 to float64, either byte order | BOOL, UINT8 to INT64, FP16 to FP64 |
//! | str (`U`), bytes (`S`), without trailing zeros | BYTES, UTF-8 |
//!
//! BYTES are written as `str` where all are UTF-8, and as `bytes` otherwise.

mod header;
mod npy;

pub(crate) use npy::NpyError;

use npyz::npz::{NpzArchive, NpzWriter};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom},
    path::Path,
};
use whimbrel_infer::Tensor;

/// The end of a zip file: its last record with the longest comment, and what a ZIP64 archive has before that.
const TAIL_BYTES: u64 = 22 + 65_535 + 20;

/// What a file may ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NpzLimits {
    /// Largest file.
    pub(crate) file_bytes_max: u64,
    /// Largest array, unpacked.
    pub(crate) array_bytes_max: u64,
}

/// Why an npz file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NpzError {
    /// The file could not be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is larger than accepted.
    #[error("longer than the {0} bytes accepted")]
    TooLarge(u64),
    /// More than 65,535 arrays or 4 GiB.
    #[error("a ZIP64 archive (more than 65535 arrays or 4 GiB), which is not supported")]
    Zip64,
    /// It is no zip archive.
    #[error("not an npz file: {0}")]
    Archive(io::Error),
    /// An array is missing.
    #[error("array {0:?} is missing")]
    Missing(String),
    /// An array is not one, or of a type without counterpart.
    #[error("array {name:?}: {source}")]
    Array {
        /// Which.
        name: String,
        /// Why.
        source: NpyError,
    },
}

/// An open npz file. Arrays are read one at a time.
pub(crate) struct NpzFile {
    archive: NpzArchive<BufReader<File>>,
    names: BTreeSet<String>,
    limits: NpzLimits,
}

impl NpzFile {
    /// Opens a file and reads its list of arrays.
    ///
    /// # Errors
    /// It cannot be read, is too large or no npz file.
    pub(crate) fn open(path: &Path, limits: NpzLimits) -> Result<Self, NpzError> {
        let mut reader = BufReader::new(File::open(path)?);
        let size_bytes = reader.seek(SeekFrom::End(0))?;
        if size_bytes > limits.file_bytes_max {
            return Err(NpzError::TooLarge(limits.file_bytes_max));
        }
        // The zip library takes memory for as many entries as a ZIP64 archive claims to have.
        if is_zip64(&mut reader, size_bytes)? {
            return Err(NpzError::Zip64);
        }
        let archive = NpzArchive::new(reader).map_err(NpzError::Archive)?;
        let names = archive.array_names().map(str::to_owned).collect();
        Ok(Self { archive, names, limits })
    }

    /// The names of the arrays, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }

    /// Reads one array.
    ///
    /// # Errors
    /// It is not there, damaged, too large, or of a type without counterpart.
    pub(crate) fn read(&mut self, name: &str) -> Result<Tensor, NpzError> {
        let fail = |source| NpzError::Array { name: name.chars().take(80).collect(), source };
        let file_name = npyz::npz::file_name_from_array_name(name);
        if !self.names.contains(name) {
            return Err(NpzError::Missing(name.chars().take(80).collect()));
        }
        let entry = self.archive.zip_archive().by_name(&file_name);
        let mut entry = entry.map_err(|e| fail(NpyError::Io(e.into())))?;
        npy::read(&mut entry, self.limits.array_bytes_max).map_err(fail)
    }

    /// Reads every array, ordered by name.
    ///
    /// # Errors
    /// See [`Self::read`].
    pub(crate) fn read_all(&mut self) -> Result<Vec<(String, Tensor)>, NpzError> {
        self.names().into_iter().map(|name| self.read(&name).map(|tensor| (name, tensor))).collect()
    }
}

fn is_zip64(reader: &mut (impl Read + Seek), size_bytes: u64) -> io::Result<bool> {
    reader.seek(SeekFrom::Start(size_bytes.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    reader.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let end = tail.windows(4).rposition(|w| w == b"PK\x05\x06");
    let locator = end.and_then(|at| at.checked_sub(20)).and_then(|at| tail.get(at..at + 4));
    Ok(locator == Some(b"PK\x06\x07"))
}

/// Writes tensors as arrays, in place of whatever the file held.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<(), NpzError> {
    let mut writer = NpzWriter::new(BufWriter::new(File::create(path)?));
    let zip = writer.zip_writer();
    for (name, tensor) in tensors {
        let file_name = npyz::npz::file_name_from_array_name(name);
        zip.start_file(file_name, Default::default()).map_err(io::Error::from)?;
        npy::write(&mut *zip, tensor).map_err(|source| NpzError::Array { name: name.to_owned(), source })?;
    }
    let file = zip.finish().map_err(io::Error::from)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_infer::Datatype;

    const LIMITS: NpzLimits = NpzLimits { file_bytes_max: 1 << 20, array_bytes_max: 1 << 20 };

    fn round_trip(tensors: &[(&str, Tensor)]) -> Vec<(String, Tensor)> {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a.npz");
        write(&path, tensors.iter().map(|(name, tensor)| (*name, tensor))).expect("writes");
        NpzFile::open(&path, LIMITS).expect("opens").read_all().expect("reads")
    }

    #[test]
    fn every_type_comes_back() {
        for datatype in Datatype::ALL {
            let tensor = match datatype.size_bytes() {
                Some(size) => {
                    let bytes = (0..6 * size).map(|i| u8::try_from(i % 2).expect("small")).collect();
                    Tensor::from_le_bytes(*datatype, vec![2, 3], bytes).expect("fits")
                }
                None => {
                    let texts = ["", "a", "zwölf", "x\0y", "🐦", "b"];
                    let texts = texts.map(|t| t.as_bytes().to_vec()).to_vec();
                    Tensor::from_strings(vec![2, 3], texts).expect("fits")
                }
            };
            let back = round_trip(&[("0/in/x", tensor.clone())]);
            assert_eq!(back, [("0/in/x".to_owned(), tensor)]);
        }
    }

    #[test]
    fn scalars_empty_arrays_and_bytes_that_are_no_text_come_back() {
        let tensors = [
            ("a", Tensor::from_values(vec![], &[7i64]).expect("a scalar")),
            ("b", Tensor::from_values::<f32>(vec![0, 4], &[]).expect("empty")),
            ("c", Tensor::from_strings(vec![1], vec![vec![0xff, 0xfe]]).expect("fits")),
            ("d", Tensor::from_strings(vec![0], vec![]).expect("empty")),
        ];
        let expected: Vec<_> = tensors.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
        assert_eq!(round_trip(&tensors), expected);
    }

    #[test]
    fn damaged_files_are_errors() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a.npz");
        let tensor = Tensor::from_values(vec![64], &[1.5f32; 64]).expect("fits");
        write(&path, [("x", &tensor)]).expect("writes");
        let good = std::fs::read(&path).expect("reads");
        for cut in [0, 1, good.len() / 2, good.len() - 1] {
            std::fs::write(&path, &good[..cut]).expect("writes");
            assert!(NpzFile::open(&path, LIMITS).is_err(), "accepted {cut} bytes");
        }
        for at in (0..good.len()).step_by(3) {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            std::fs::write(&path, &bad).expect("writes");
            // Some bytes do not matter (times, versions): then the content must be the same.
            let read = NpzFile::open(&path, LIMITS).and_then(|mut file| file.read("x"));
            assert!(read.is_err() || read.is_ok_and(|t| t == tensor), "byte {at}");
        }
    }

    #[test]
    fn limits_hold() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a.npz");
        // Compresses to far less than it unpacks to.
        let tensor = Tensor::from_values(vec![100_000], &[0f32; 100_000]).expect("fits");
        write(&path, [("x", &tensor)]).expect("writes");
        let open = |limits| NpzFile::open(&path, limits);
        let small = NpzLimits { array_bytes_max: 399_999, ..LIMITS };
        let error = open(small).expect("a small file").read("x").expect_err("too large");
        assert!(matches!(error, NpzError::Array { source: NpyError::TooLarge { .. }, .. }), "{error}");
        assert!(matches!(open(NpzLimits { file_bytes_max: 10, ..LIMITS }), Err(NpzError::TooLarge(10))));
        let error = open(LIMITS).expect("opens").read("y").expect_err("absent");
        assert!(matches!(error, NpzError::Missing(_)));
    }
}
