//! What is on a disk after a power cut.
//!
//! The rules, which are those of POSIX as file systems in use keep them (ext4 with `data=ordered` and worse ones):
//! - The bytes of a file as of its last sync are there, save where they were overwritten or cut off after it.
//! - Bytes written after that are there or not, sector by sector (512 bytes or 4 KiB) in any order; the length may have
//!   been updated before them, and then zeros stand in their place; a truncation may have come through alone.
//! - Names in a folder as of its last sync are there, save those that were changed after it.
//! - Of the names changed after that, any may have come through, in any order, with two bounds. Changes of the same name
//!   keep their order. A rename is one step: within a folder wholly done or not at all; between folders the new name
//!   may be there beside the old one, but never neither.
//! - Bytes and names are independent of each other: a renamed file may have its new name and none of its bytes.
//! - Nothing is lost that was synced, and no byte appears that nobody wrote.

use super::tree::{Folder, Node, NodeId, TOP, Tree};
use crate::random::Random;
use std::collections::BTreeMap;

/// Which of the changes that were not synced are on disk after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// None.
    Nothing,
    /// All, as if each call had been synced.
    Everything,
    /// All names, and no byte: a file system that writes names first.
    Names,
    /// All bytes, and no name.
    Bytes,
    /// Some, by this seed: torn, and in another order than they were made.
    Mixture(u64),
}

impl Image {
    /// The four that are not drawn, and `mixtures` that are, from seeds that differ between cut points.
    pub fn all(cut_point: u64, mixtures: u64) -> impl Iterator<Item = Self> {
        let seed = cut_point.wrapping_mul(1000);
        let fixed = [Self::Nothing, Self::Everything, Self::Names, Self::Bytes];
        fixed.into_iter().chain((0..mixtures).map(move |n| Self::Mixture(seed + n)))
    }
}

/// The tree as the next process finds it.
pub(super) fn survive(mut tree: Tree, image: Image) -> Tree {
    let mut random = match image {
        Image::Mixture(seed) => Random::new(seed),
        _ => Random::new(0),
    };
    match image {
        Image::Nothing | Image::Bytes => {}
        Image::Everything | Image::Names => tree.settle_some(|| true),
        Image::Mixture(_) => settle_drawn(&mut tree, &mut random),
    }
    let mut survived = Tree::new();
    copy_folder(&tree, TOP, TOP, image, &mut random, &mut survived);
    survived
}

/// Half of the time the changes that were made first, as a journal keeps them; otherwise any.
fn settle_drawn(tree: &mut Tree, random: &mut Random) {
    if random.percent(50) {
        let mut left = random.below(tree.pending.len() as u64 + 1);
        tree.settle_some(|| {
            let first = left > 0;
            left = left.saturating_sub(1);
            first
        });
    } else {
        let share = 15 + 35 * random.below(3);
        tree.settle_some(|| random.percent(share));
    }
}

fn copy_folder(tree: &Tree, id: NodeId, to: NodeId, image: Image, random: &mut Random, survived: &mut Tree) {
    let Node::Folder(folder) = &tree.nodes[id] else { return };
    let mut names = BTreeMap::new();
    for (name, child) in &folder.durable {
        let copy = survived.nodes.len();
        names.insert(name.clone(), copy);
        match &tree.nodes[*child] {
            Node::File(content) => {
                let bytes = match image {
                    Image::Nothing | Image::Names => content.certain(),
                    Image::Everything | Image::Bytes => content.live.clone(),
                    Image::Mixture(_) => content.torn(random),
                };
                survived.nodes.push(Node::File(super::content::Content::durable(bytes.clone(), bytes)));
            }
            Node::Folder(_) => {
                survived.nodes.push(Node::Folder(Folder::default()));
                copy_folder(tree, *child, copy, image, random, survived);
            }
        }
    }
    survived.nodes[to] = Node::Folder(Folder { live: names.clone(), durable: names });
}
