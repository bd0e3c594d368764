//! Every input of the corpora, and mutations of each, through its target. What a fuzzer found once is never accepted again.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic that says why")]

use std::{fs, path::PathBuf};
use whimbrel_fuzz::TARGETS;

/// Mutations of each input.
const MUTATIONS: u64 = 200;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end as u64).max(1)).expect("small")
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("lists").path())
        .collect();
    files.sort();
    files.iter().map(|path| fs::read(path).expect("reads")).collect()
}

/// One of: a flipped bit, another byte, a part left out, a part twice, a part of another input.
fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            break;
        }
        let (a, b) = (random.below(bytes.len()), random.below(bytes.len()));
        let (a, b) = (a.min(b), a.max(b));
        match random.below(5) {
            0 => bytes[a] ^= 1 << random.below(8),
            1 => bytes[a] = random.next().to_le_bytes()[0],
            2 => drop(bytes.drain(a..b.min(a + 64))),
            3 => {
                let part = bytes[a..b.min(a + 64)].to_vec();
                bytes.splice(a..a, part);
            }
            _ => {
                let from = random.below(other.len());
                let part = &other[from..other.len().min(from + 64)];
                bytes.splice(a..b.min(a + part.len()), part.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn nothing_in_the_corpora_nor_near_it_breaks_a_target() {
    for (name, run) in TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no inputs");
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for input in &inputs {
            run(input);
            for _ in 0..MUTATIONS {
                let other = &inputs[random.below(inputs.len())];
                run(&mutate(input, other, &mut random));
            }
        }
    }
}

#[test]
fn every_corpus_belongs_to_a_target() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(dir).expect("lists") {
        let name = entry.expect("lists").file_name();
        assert!(TARGETS.iter().any(|target| name == target.0), "{}", name.display());
    }
}
