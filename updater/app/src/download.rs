//! Downloading targets.

mod file;

use anyhow::{Context as _, Result, bail};
use file::{Download, holds};
use std::path::Path;
use time::OffsetDateTime;
use whimbrel_updater::{
    disk::{Files, create_dirs},
    transport::Https,
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

/// Downloads a target, which never is in memory as a whole: its bytes go to a file of another name, and that gets the target's name
/// once they are the signed ones.
async fn fetch(target: &Target, file: String, source: &Https, dir: &Path) -> Result<()> {
    // The whole name as one segment: a target's name may hold what leads out of the folder.
    let name = file_stem(&target.path);
    if matches!(&*name, "" | "." | "..") {
        bail!("its name is none for a file");
    }
    if holds(dir, &name, target) {
        return Ok(());
    }
    let mut download = Download::begin(dir, &name, target)?;
    source.target_into(&file, target.length_bytes, &mut download).await?;
    download.finish()
}

#[cfg(test)]
mod tests;
