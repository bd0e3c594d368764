//! What anyone may fetch, by HTTPS or MQTT: metadata, targets, chunks. Their bytes prove themselves.

use super::{Fault, Fleet};
use crate::store::metadata::RoleFile;
use whimbrel_wire::Digest;

/// The one metadata file whose content changes.
pub(crate) const TIMESTAMP: &str = "timestamp.json";

impl Fleet {
    /// The bytes of a metadata file; `None` where there is none of this name.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn metadata_file(&self, file: &str) -> Result<Option<Vec<u8>>, Fault> {
        if file == TIMESTAMP {
            let newest = self.store().newest_metadata(RoleFile::Timestamp).await?;
            return Ok(newest.map(|f| f.bytes));
        }
        let Some((role, version)) = metadata_name(file) else { return Ok(None) };
        Ok(self.store().metadata(role, version).await?)
    }

    /// Under which hash a target is kept; `None` where none of this name (`dir/HASH.file`) is or was published.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn target_hash(&self, file: &str) -> Result<Option<Digest>, Fault> {
        let Some((path, hash)) = target_name(file) else { return Ok(None) };
        Ok(self.store().is_target(&path, &hash).await?.then_some(hash))
    }
}

/// `N.role.json`, decoded; the number has one way to be written.
fn metadata_name(file: &str) -> Option<(RoleFile, u32)> {
    let (version, role) = file.strip_suffix(".json")?.split_once('.')?;
    let number: u32 = version.parse().ok()?;
    let role = [RoleFile::Root, RoleFile::Timestamp, RoleFile::Snapshot, RoleFile::Targets]
        .into_iter()
        .find(|r| r.as_str() == role)
        .unwrap_or_else(|| RoleFile::Delegated(role.to_owned()));
    (number > 0 && number.to_string() == version).then_some((role, number))
}

/// `dir/HASH.name` as the target's path and hash.
fn target_name(path: &str) -> Option<(String, Digest)> {
    let (dir, file) = path.rsplit_once('/').map_or((None, path), |(dir, file)| (Some(dir), file));
    let (hash, name) = file.split_once('.')?;
    let name = dir.map_or_else(|| name.to_owned(), |dir| format!("{dir}/{name}"));
    Some((name, hash.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_protocol_are_files() {
        assert_eq!(metadata_name("12.targets.json"), Some((RoleFile::Targets, 12)));
        let delegated = |name: &str| RoleFile::Delegated(name.to_owned());
        assert_eq!(metadata_name("1.a/b #1.json"), Some((delegated("a/b #1"), 1)));
        assert_eq!(metadata_name("1.2.targets.json"), Some((delegated("2.targets"), 1)));
        for bad in
            ["0.root.json", "01.root.json", "+1.root.json", "root.json", "1.root.json.x", "x.root.json"]
        {
            assert_eq!(metadata_name(bad), None, "{bad}");
        }
        let hash = Digest::new([0xab; 32]);
        let found = target_name(&format!("digits/{hash}.1.0.0.wbi"));
        assert_eq!(found, Some(("digits/1.0.0.wbi".into(), hash)));
        assert_eq!(target_name("digits/1.0.0.wbi"), None);
    }
}
