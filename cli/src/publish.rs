//! Bringing signed metadata and bundles to a fleet server. Every function can be repeated: what is there is skipped.

#[cfg(test)]
mod tests;

use crate::{
    client::Client,
    error::Failure,
    files,
    output::Output,
    repository::{Online, Repository},
};
use semver::Version;
use serde::Serialize;
use std::{fs::File, io::BufReader, path::Path};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use whimbrel_updater::{
    bundle::Packed,
    tuf::{Signed, Snapshot, Timestamp},
};
use whimbrel_wire::{Digest, ModelName};

/// Most hashes in one question for missing chunks.
const HASHES_MAX: usize = 10_000;
/// Chunks on their way at the same time.
const UPLOADS_MAX: usize = 8;

/// What a publication did.
#[derive(Debug, Serialize)]
pub(crate) struct Published {
    /// Which model.
    pub(crate) model: ModelName,
    /// Which version.
    pub(crate) version: Version,
    /// Chunks of the bundle.
    pub(crate) chunks: usize,
    /// Those that the server lacked.
    pub(crate) uploaded_chunks: usize,
    /// Their size.
    pub(crate) uploaded_bytes: u64,
    /// Version of the targets that the server now has.
    pub(crate) targets_version: u64,
}

/// Reads a `.wbundle` and checks that it is whole; that says nothing about signatures.
///
/// # Errors
/// Bad input when it is none.
pub(crate) fn read_bundle(file: &Path) -> Result<Packed, Failure> {
    let attempted = format!("reading the bundle {}", file.display());
    let bad = |e: &dyn std::fmt::Display| Failure::usage(attempted.as_str(), e);
    let packed = Packed::read(BufReader::new(File::open(file).map_err(|e| bad(&e))?)).map_err(|e| bad(&e))?;
    packed.verify_content().map_err(|e| bad(&e))?;
    Ok(packed)
}

/// Writes the bundle with all the metadata that the folder holds into `file`.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn embed(file: &Path, bundle: &Packed, repository: &Repository) -> Result<(), Failure> {
    let mut bundle = bundle.clone();
    bundle.metadata = repository.for_bundle()?;
    write_bundle(file, &bundle)
}

/// Writes a `.wbundle`.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_bundle(file: &Path, bundle: &Packed) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    bundle.write(&mut bytes).map_err(|e| Failure::failed(format!("writing {}", file.display()), e))?;
    files::write(file, &bytes)
}

/// Pushes every root that the server lacks; gives their number.
///
/// # Errors
/// Refused when a root is not signed as it should be.
pub(crate) async fn push_roots(client: &Client, repository: &Repository) -> Result<u64, Failure> {
    repository.check_complete()?;
    let known = u64::from(client.repository().await?.root_version);
    let newest = repository.root_version()?;
    for version in known + 1..=newest {
        client.push_root(repository.root(version)?).await?;
    }
    Ok(newest.saturating_sub(known))
}

/// Brings a bundle that the folder has signed to the server, with the metadata that names it, and takes over what the server
/// signs about that.
///
/// # Errors
/// What the server refuses; repeating it goes on where it stopped.
pub(crate) async fn publish(
    client: &Client,
    repository: &Repository,
    bundle: &Packed,
    output: Output,
) -> Result<Published, Failure> {
    let uploaded = upload_chunks(client, bundle, output).await?;
    client.put_index(&bundle.digest(), bundle.index_bytes().to_vec()).await?;
    let known = u64::from(client.repository().await?.targets_version);
    let first = repository.first_targets_with(&bundle.target_path(), bundle.index_bytes(), known)?;
    // None: the server has the version that names it.
    push_targets_to(client, repository, known, first.unwrap_or(known)).await?;
    pull(client, repository).await?;
    let manifest = &bundle.index().manifest;
    Ok(Published {
        model: manifest.name.clone(),
        version: manifest.version.clone(),
        chunks: bundle.chunks().len(),
        uploaded_chunks: uploaded.0,
        uploaded_bytes: uploaded.1,
        targets_version: first.unwrap_or(known),
    })
}

/// Pushes every version of the targets that the server lacks.
///
/// # Errors
/// What the server refuses.
pub(crate) async fn push_targets(client: &Client, repository: &Repository) -> Result<(), Failure> {
    let known = u64::from(client.repository().await?.targets_version);
    push_targets_to(client, repository, known, repository.targets_version()?.unwrap_or(0)).await
}

async fn push_targets_to(
    client: &Client,
    repository: &Repository,
    known: u64,
    last: u64,
) -> Result<(), Failure> {
    let newest = repository.targets_version()?.unwrap_or(0);
    if known > newest {
        let why = format!("the server has version {known} of the targets, the folder {newest}");
        return Err(
            Failure::failed("publishing the targets", why).hint("run `whimbrel repo pull`, then try again")
        );
    }
    for version in known + 1..=last {
        client.push_targets(repository.targets(version)?).await?;
    }
    Ok(())
}

/// Brings the server's newer metadata into the folder, once checked; gives the names of the files.
///
/// # Errors
/// Refused when it does not verify.
pub(crate) async fn pull(client: &Client, repository: &Repository) -> Result<Vec<String>, Failure> {
    let mut adopted = Vec::new();
    while let Some(root) = client.metadata(&format!("{}.root.json", repository.root_version()? + 1)).await? {
        adopted.push(repository.adopt_root(&root)?);
    }
    let Some(timestamp) = client.metadata("timestamp.json").await? else { return Ok(adopted) };
    let unreadable = |e| Failure::refused("reading the server's metadata", e);
    let snapshot_version =
        Signed::<Timestamp>::parse(&timestamp).map_err(unreadable)?.body().snapshot.version;
    let snapshot = fetch(client, format!("{snapshot_version}.snapshot.json")).await?;
    let named = Signed::<Snapshot>::parse(&snapshot).map_err(unreadable)?;
    let targets_version = named.body().files.get("targets.json").map(|f| f.version);
    let targets_version = targets_version
        .ok_or_else(|| Failure::refused("reading the server's metadata", "the snapshot names no targets"))?;
    let targets = fetch(client, format!("{targets_version}.targets.json")).await?;
    let online = Online { timestamp, snapshot, targets };
    adopted.extend(repository.adopt(&online, OffsetDateTime::now_utc())?);
    Ok(adopted)
}

async fn fetch(client: &Client, file: String) -> Result<Vec<u8>, Failure> {
    let found = client.metadata(&file).await?;
    found.ok_or_else(|| {
        Failure::refused(format!("fetching {file}"), "the server names it but does not have it")
    })
}

/// Uploads the chunks that the server lacks; gives their number and size.
async fn upload_chunks(client: &Client, bundle: &Packed, output: Output) -> Result<(usize, u64), Failure> {
    let all: Vec<Digest> = bundle.chunks().keys().copied().collect();
    let mut missing = Vec::new();
    for part in all.chunks(HASHES_MAX) {
        missing.extend(client.missing_chunks(part.to_vec()).await?);
    }
    // Only what the bundle has is sent, whatever the server says it lacks.
    let wanted: Vec<(Digest, Vec<u8>)> =
        missing.iter().filter_map(|hash| Some((*hash, bundle.chunks().get(hash)?.clone()))).collect();
    let (count, size) = (wanted.len(), wanted.iter().map(|(_, bytes)| bytes.len() as u64).sum());
    let bar = output.progress(size, "uploading");
    let mut uploads = JoinSet::new();
    for (hash, bytes) in wanted {
        if uploads.len() >= UPLOADS_MAX {
            bar.inc(next_done(&mut uploads).await?);
        }
        let client = client.clone();
        uploads.spawn(async move {
            let size = bytes.len() as u64;
            client.put_chunk(&hash, bytes).await.map(|()| size)
        });
    }
    while !uploads.is_empty() {
        bar.inc(next_done(&mut uploads).await?);
    }
    bar.finish_and_clear();
    Ok((count, size))
}

async fn next_done(uploads: &mut JoinSet<Result<u64, Failure>>) -> Result<u64, Failure> {
    match uploads.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(e)) => Err(Failure::failed("uploading a chunk", e)),
        None => Ok(0),
    }
}
