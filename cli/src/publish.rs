//! Bringing signed metadata and bundles to a fleet server. Every function can be repeated: what is there is skipped.

#[cfg(test)]
mod tests;

use crate::{
    client::Client,
    error::Failure,
    files,
    output::Output,
    repository::{Online, ROOT, Repository, TARGETS},
};
use semver::Version;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    path::Path,
};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use whimbrel_updater::{
    bundle::Packed,
    hash::sha256,
    repo::{Delegation, file_name},
    tuf::{Signed, Snapshot, Timestamp},
};
use whimbrel_wire::{Digest, ModelName, decode, index::Index};

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
/// Refused when what names it waits for signatures; what the server refuses. Repeating it goes on where it stopped.
pub(crate) async fn publish(
    client: &Client,
    repository: &Repository,
    role: &str,
    bundle: &Packed,
    output: Output,
) -> Result<Published, Failure> {
    let (path, index) = (bundle.target_path(), bundle.index_bytes());
    if repository.first_with(role, &path, index, 0)?.is_none() {
        let why = format!("the version of {role} that names it waits for signatures");
        return Err(Failure::refused(format!("publishing {path}"), why)
            .hint(format!("add one with `whimbrel repo sign {role:?}`")));
    }
    let uploaded = upload_chunks(client, bundle.chunks(), output).await?;
    client.put_index(&bundle.digest(), index.to_vec()).await?;
    let known = known_version(client, role).await?;
    // None: the server has the version that names it.
    let first = repository.first_with(role, &path, index, known)?;
    if role != TARGETS {
        // What delegates to the role comes before it.
        push_role(client, repository, TARGETS, None).await?;
    }
    push_role(client, repository, role, Some(first.unwrap_or(known))).await?;
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

/// What [`push`] did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Pushed {
    /// Metadata files that the server lacked.
    pub(crate) files: Vec<String>,
    /// Chunks that it lacked.
    pub(crate) chunks: usize,
    /// Files that the server signed about them, brought into the folder.
    pub(crate) pulled: Vec<String>,
}

/// Brings everything in the folder that has all its signatures to the server: roots, bundles, targets, delegated roles; and
/// takes over what the server signs about that.
///
/// # Errors
/// What the server refuses; repeating it goes on where it stopped.
pub(crate) async fn push(
    client: &Client,
    repository: &Repository,
    output: Output,
) -> Result<Pushed, Failure> {
    let mut pushed = Pushed::default();
    let newest = repository.root_version()?;
    let roots = push_roots(client, repository).await?;
    pushed.files.extend((newest - roots + 1..=newest).map(|version| file_name(ROOT, Some(version))));
    pushed.chunks = push_content(client, repository, output).await?;
    for role in repository.targets_roles()? {
        pushed.files.extend(push_role(client, repository, &role, None).await?);
    }
    pushed.pulled = pull(client, repository).await?;
    Ok(pushed)
}

/// Uploads what the folder holds of the bundles that its metadata names; gives the number of chunks that the server lacked.
async fn push_content(client: &Client, repository: &Repository, output: Output) -> Result<usize, Failure> {
    let mut sent = 0;
    for target in repository.signed_targets()? {
        let Some(bytes) = repository.kept_index(&target)? else { continue };
        let attempted = format!("uploading {}", target.path);
        let index: Index = decode(&bytes).map_err(|e| {
            Failure::usage(attempted.as_str(), e)
                .hint("a fleet server holds bundles; serve other files with a web server")
        })?;
        let mut chunks = BTreeMap::new();
        for stored in index.chunks().map(|c| c.stored) {
            if let Some(bytes) = repository.kept_chunk(&stored)? {
                chunks.insert(stored, bytes);
            }
        }
        sent += upload_chunks(client, &chunks, output).await?.0;
        client.put_index(&sha256(&bytes), bytes).await?;
    }
    Ok(sent)
}

/// Pushes every version of the targets that the server lacks.
///
/// # Errors
/// What the server refuses.
pub(crate) async fn push_targets(client: &Client, repository: &Repository) -> Result<(), Failure> {
    push_role(client, repository, TARGETS, None).await.map(drop)
}

/// Pushes the versions of a targets role that the server lacks, up to `last`; gives the names of their files.
async fn push_role(
    client: &Client,
    repository: &Repository,
    role: &str,
    last: Option<u64>,
) -> Result<Vec<String>, Failure> {
    let known = known_version(client, role).await?;
    let newest = repository.version(role)?.unwrap_or(0);
    if known > newest {
        let why = format!("the server has version {known} of {role}, the folder {newest}");
        return Err(Failure::failed(format!("publishing {role}"), why)
            .hint("run `whimbrel repo pull`, then try again"));
    }
    let mut files = Vec::new();
    for version in known + 1..=last.unwrap_or(newest) {
        let bytes = repository.file(role, version)?;
        match role {
            TARGETS => client.push_targets(bytes).await?,
            _ => client.push_delegated(role, bytes).await?,
        }
        files.push(file_name(role, Some(version)));
    }
    Ok(files)
}

/// The version of a targets role that the server has; 0 where it has none.
async fn known_version(client: &Client, role: &str) -> Result<u64, Failure> {
    if role == TARGETS {
        return Ok(u64::from(client.repository().await?.targets_version));
    }
    let Some(timestamp) = client.metadata("timestamp.json").await? else { return Ok(0) };
    let (_, snapshot) = fetch_snapshot(client, &timestamp).await?;
    Ok(snapshot.files.get(&format!("{role}.json")).map_or(0, |f| f.version))
}

/// Brings the server's newer metadata into the folder, once checked; gives the names of the files.
///
/// # Errors
/// Refused when it does not verify.
pub(crate) async fn pull(client: &Client, repository: &Repository) -> Result<Vec<String>, Failure> {
    let mut adopted = Vec::new();
    while let Some(root) = client.metadata(&file_name(ROOT, Some(repository.root_version()? + 1))).await? {
        adopted.push(repository.adopt_root(&root)?);
    }
    let Some(timestamp) = client.metadata("timestamp.json").await? else { return Ok(adopted) };
    let (bytes, snapshot) = fetch_snapshot(client, &timestamp).await?;
    let targets = fetch_role(client, &snapshot, TARGETS)
        .await?
        .ok_or_else(|| Failure::refused("reading the server's metadata", "the snapshot names no targets"))?;
    let delegated = fetch_delegated(client, &snapshot, &targets).await?;
    let online = Online { timestamp, snapshot: bytes, targets, delegated };
    adopted.extend(repository.adopt(&online, OffsetDateTime::now_utc())?);
    Ok(adopted)
}

async fn fetch_snapshot(client: &Client, timestamp: &[u8]) -> Result<(Vec<u8>, Snapshot), Failure> {
    let unreadable = |e| Failure::refused("reading the server's metadata", e);
    let version = Signed::<Timestamp>::parse(timestamp).map_err(unreadable)?.body().snapshot.version;
    let bytes = fetch(client, format!("{version}.snapshot.json")).await?;
    let snapshot = Signed::<Snapshot>::parse(&bytes).map_err(unreadable)?.body().clone();
    Ok((bytes, snapshot))
}

/// The files of every delegated role that the snapshot names, each after the one that delegates to it.
async fn fetch_delegated(
    client: &Client,
    snapshot: &Snapshot,
    targets: &[u8],
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let below = |bytes: &[u8]| {
        let all =
            Delegation::read_all(bytes).map_err(|e| Failure::refused("reading the server's metadata", e))?;
        Ok::<_, Failure>(all.into_iter().map(|d| d.name).rev().collect::<Vec<_>>())
    };
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut ahead = below(targets)?;
    while let Some(role) = ahead.pop() {
        // Each role once, so the snapshot's length bounds the loop.
        if !seen.insert(role.clone()) {
            continue;
        }
        if let Some(bytes) = fetch_role(client, snapshot, &role).await? {
            ahead.extend(below(&bytes)?);
            found.push((role, bytes));
        }
    }
    Ok(found)
}

async fn fetch_role(client: &Client, snapshot: &Snapshot, role: &str) -> Result<Option<Vec<u8>>, Failure> {
    match snapshot.files.get(&format!("{role}.json")) {
        Some(named) => fetch(client, file_name(role, Some(named.version))).await.map(Some),
        None => Ok(None),
    }
}

async fn fetch(client: &Client, file: String) -> Result<Vec<u8>, Failure> {
    let found = client.metadata(&file).await?;
    found.ok_or_else(|| {
        Failure::refused(format!("fetching {file}"), "the server names it but does not have it")
    })
}

/// Uploads the chunks that the server lacks; gives their number and size.
async fn upload_chunks(
    client: &Client,
    chunks: &BTreeMap<Digest, Vec<u8>>,
    output: Output,
) -> Result<(usize, u64), Failure> {
    let all: Vec<Digest> = chunks.keys().copied().collect();
    let mut missing = Vec::new();
    for part in all.chunks(HASHES_MAX) {
        missing.extend(client.missing_chunks(part.to_vec()).await?);
    }
    // Only what is there is sent, whatever the server says it lacks.
    let wanted: Vec<(Digest, Vec<u8>)> =
        missing.iter().filter_map(|hash| Some((*hash, chunks.get(hash)?.clone()))).collect();
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
