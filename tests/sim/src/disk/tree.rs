//! Folders and files in memory, each as the process sees it (`live`) and as it is certain to be after a power cut (`durable`).

use super::content::Content;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path},
};

pub(super) type NodeId = usize;

/// The folder that all others are in.
pub(super) const TOP: NodeId = 0;

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Content),
    Folder(Folder),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Folder {
    pub(super) live: BTreeMap<OsString, NodeId>,
    pub(super) durable: BTreeMap<OsString, NodeId>,
}

/// Names that change in one folder, all or none of them, and that no sync has made durable yet.
#[derive(Debug, Clone)]
pub(super) struct NameChange {
    id: u64,
    pub(super) folder: NodeId,
    pub(super) names: Vec<(OsString, Option<NodeId>)>,
    /// Earlier changes without which this one cannot be on disk.
    after: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    /// In the order in which they were made.
    pub(super) pending: Vec<NameChange>,
    next_change: u64,
}

impl Tree {
    /// An empty top folder.
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::Folder(Folder::default())], pending: Vec::new(), next_change: 0 }
    }

    /// The node of a path.
    pub(super) fn find(&self, path: &Path) -> Option<NodeId> {
        let mut at = TOP;
        for part in path.components() {
            match part {
                Component::Normal(name) => at = *self.folder(at).ok()?.live.get(name)?,
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return None,
            }
        }
        Some(at)
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&Content> {
        match &self.nodes[id] {
            Node::File(content) => Ok(content),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut Content> {
        match &mut self.nodes[id] {
            Node::File(content) => Ok(content),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn folder(&self, id: NodeId) -> io::Result<&Folder> {
        match &self.nodes[id] {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The folder that a path is in, and its name there.
    pub(super) fn place<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.find(path.parent().unwrap_or(Path::new("/"))).ok_or(io::ErrorKind::NotFound)?;
        self.folder(parent)?;
        Ok((parent, name))
    }

    /// Puts a new node under a name that is free.
    pub(super) fn create(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (folder, name) = self.place(path)?;
        let id = self.nodes.len();
        self.nodes.push(node);
        self.rename_in(folder, vec![(name.to_owned(), Some(id))], None);
        Ok(id)
    }

    /// Takes a name away.
    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        self.rename_in(folder, vec![(name.to_owned(), None)], None);
        Ok(())
    }

    /// Moves a name as `rename(2)` does.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from).ok_or(io::ErrorKind::NotFound)?;
        let (old_folder, old) = self.place(from)?;
        let (new_folder, new) = self.place(to)?;
        if let Some(target) = self.find(to) {
            match (&self.nodes[node], &self.nodes[target]) {
                (_, Node::Folder(folder)) if !folder.live.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                (Node::File(_), Node::Folder(_)) => return Err(io::ErrorKind::IsADirectory.into()),
                (Node::Folder(_), Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                _ => {}
            }
        }
        if old_folder == new_folder {
            self.rename_in(old_folder, vec![(old.to_owned(), None), (new.to_owned(), Some(node))], None);
        } else {
            // The new name may be durable without the loss of the old one, never the other way round.
            let added = self.rename_in(new_folder, vec![(new.to_owned(), Some(node))], None);
            self.rename_in(old_folder, vec![(old.to_owned(), None)], Some(added));
        }
        Ok(())
    }

    /// Takes away a file, or a folder from the inside out, name by name.
    pub(super) fn remove_all(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path).ok_or(io::ErrorKind::NotFound)?;
        if let Node::Folder(folder) = &self.nodes[id] {
            let names: Vec<OsString> = folder.live.keys().cloned().collect();
            for name in names {
                self.remove_all(&path.join(name))?;
            }
        }
        self.unlink(path)
    }

    /// Makes the names in a folder durable, with all that they could not be on disk without. Whether there were any.
    pub(super) fn sync_folder(&mut self, id: NodeId) -> bool {
        let mut wanted: BTreeSet<u64> = BTreeSet::new();
        for change in self.pending.iter().rev() {
            if change.folder == id || wanted.contains(&change.id) {
                wanted.insert(change.id);
                wanted.extend(&change.after);
            }
        }
        self.settle(&wanted);
        !wanted.is_empty()
    }

    pub(super) fn has_changes_in(&self, id: NodeId) -> bool {
        self.pending.iter().any(|c| c.folder == id)
    }

    /// Makes some of the pending changes durable: those that `choose` takes and that do not hang on one left out.
    pub(super) fn settle_some(&mut self, mut choose: impl FnMut() -> bool) {
        let mut chosen: BTreeSet<u64> = BTreeSet::new();
        let waiting: BTreeSet<u64> = self.pending.iter().map(|c| c.id).collect();
        for change in &self.pending {
            let possible = change.after.iter().all(|id| chosen.contains(id) || !waiting.contains(id));
            if choose() && possible {
                chosen.insert(change.id);
            }
        }
        self.settle(&chosen);
    }

    /// Bytes taken up, in whole blocks.
    pub(super) fn used_bytes(&self, block_bytes: u64) -> u64 {
        let mut used = 0;
        let mut open = vec![TOP];
        while let Some(id) = open.pop() {
            match &self.nodes[id] {
                Node::File(content) => {
                    used += (content.live.len() as u64).div_ceil(block_bytes) * block_bytes
                }
                Node::Folder(folder) => {
                    used += block_bytes;
                    open.extend(folder.live.values());
                }
            }
        }
        used
    }

    fn settle(&mut self, ids: &BTreeSet<u64>) {
        let (settled, pending) =
            std::mem::take(&mut self.pending).into_iter().partition(|c| ids.contains(&c.id));
        self.pending = pending;
        let settled: Vec<NameChange> = settled;
        for change in settled {
            if let Node::Folder(folder) = &mut self.nodes[change.folder] {
                apply(&mut folder.durable, &change.names);
            }
        }
    }

    /// Changes names in a folder in one step; changes of the same name reach the disk in the order in which they were made.
    fn rename_in(
        &mut self,
        folder: NodeId,
        names: Vec<(OsString, Option<NodeId>)>,
        after: Option<u64>,
    ) -> u64 {
        let touches =
            |c: &NameChange| c.folder == folder && c.names.iter().any(|n| names.iter().any(|m| n.0 == m.0));
        let mut after: BTreeSet<u64> = after.into_iter().collect();
        after.extend(self.pending.iter().filter(|c| touches(c)).map(|c| c.id));
        if let Node::Folder(folder) = &mut self.nodes[folder] {
            apply(&mut folder.live, &names);
        }
        let id = self.next_change;
        self.next_change += 1;
        self.pending.push(NameChange { id, folder, names, after });
        id
    }
}

fn apply(names: &mut BTreeMap<OsString, NodeId>, changes: &[(OsString, Option<NodeId>)]) {
    for (name, node) in changes {
        match node {
            Some(node) => {
                names.insert(name.clone(), *node);
            }
            None => {
                names.remove(name);
            }
        }
    }
}
