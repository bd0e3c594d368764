//! Downloading targets.

use anyhow::{Context as _, Result, bail};
use std::path::Path;
use time::OffsetDateTime;
use whimbrel_updater::{
    disk::{Disk as _, Files, create_dirs, write_atomically},
    transport::{Https, Transport as _},
    tuf::{Target, Trust, file_stem},
};

/// Downloads the targets in order, each after a look into the newest metadata; the first failure ends it.
///
/// # Errors
/// When metadata or a target cannot be had or trusted, or a file cannot be written.
pub(crate) async fn run(mut trust: Trust, source: &Https, names: &[String], dir: &Path) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    trust.refresh(source, now).await?;
    create_dirs(&Files, dir)?;
    for name in names {
        let target = trust.find(name, source, now).await?;
        let target =
            target.with_context(|| format!("download {name:?}: the metadata names no such target"))?;
        let consistent = trust.trusted().root().body().consistent_snapshot;
        fetch(&target, if consistent { target.file() } else { target.path.clone() }, source, dir)
            .await
            .with_context(|| format!("download {name:?}"))?;
    }
    Ok(())
}

async fn fetch(target: &Target, file: String, source: &Https, dir: &Path) -> Result<()> {
    // The whole name as one segment: a target's name may hold what leads out of the folder.
    let path = dir.join(file_stem(&target.path));
    if path.file_name().is_none() {
        bail!("its name is none for a file");
    }
    if let Ok(Some(present)) = Files.read(&path, target.length_bytes)
        && target.check(&present).is_ok()
    {
        return Ok(());
    }
    let bytes = source.target(&file, target.length_bytes).await?;
    target.check(&bytes)?;
    Ok(write_atomically(&Files, &path, &bytes)?)
}
