//! Steps of a plan as dispatches: places, constants, scratch memory.

use super::tables::{self, Meets, Tables};
use crate::kernels::{Kernel, groups};
use whimbrel_infer::{
    CompileError,
    plan::{ALIGNMENT_BYTES, BufferId, Place, Plan, QPair, SLACK_BYTES, Step},
};

/// Words of the arena, and vectors of the constants, at which a dispatch finds things. As `Places` in common.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Places {
    /// The first operand.
    pub(crate) x: u32,
    /// The second operand.
    pub(crate) y: u32,
    /// The result.
    pub(crate) out: u32,
    /// Vectors of four words.
    pub(crate) constants: u32,
}

/// Most tables of pairs of bytes of a plan, 64 KiB each.
const PAIRS_MAX: usize = 1024;

/// One dispatch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dispatch {
    /// What runs.
    pub(crate) kernel: Kernel,
    /// On what.
    pub(crate) places: Places,
    /// Which buffer of constants it sees.
    pub(crate) chunk: usize,
    /// How many workgroups.
    pub(crate) groups: [u32; 3],
}

/// What a step becomes: dispatches, or nothing where no kernel does it.
pub(crate) type Lowered = Result<Option<Vec<Dispatch>>, CompileError>;

/// Constants of one dispatch, put together.
#[derive(Debug, Default)]
pub(crate) struct Block {
    words: Vec<u32>,
}

impl Block {
    /// Adds words and says at which vector of four they begin.
    pub(crate) fn words(&mut self, words: impl IntoIterator<Item = u32>) -> u32 {
        self.words.resize(self.words.len().next_multiple_of(4), 0);
        let start = self.words.len() / 4;
        self.words.extend(words);
        start as u32
    }

    /// As [`Self::words`], of f32.
    pub(crate) fn floats(&mut self, floats: impl IntoIterator<Item = f32>) -> u32 {
        self.words(floats.into_iter().map(f32::to_bits))
    }

    /// As [`Self::words`], of bytes, four to a word.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> u32 {
        let word = |four: &[u8]| four.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        self.words(bytes.chunks(4).map(word))
    }
}

/// Constants of all dispatches, in as many buffers as a device's limit asks for.
#[derive(Debug)]
pub(crate) struct Constants {
    /// Words of each buffer.
    pub(crate) chunks: Vec<Vec<u32>>,
    words_max: usize,
}

impl Constants {
    /// None, in buffers of at most so many bytes.
    pub(crate) const fn new(buffer_bytes_max: u64) -> Self {
        Self { chunks: Vec::new(), words_max: (buffer_bytes_max / 16 * 4) as usize }
    }

    /// Adds a block; says in which buffer it is, and at which vector it begins.
    fn add(&mut self, block: Block) -> Result<(usize, u32), CompileError> {
        let mut words = block.words;
        words.resize(words.len().next_multiple_of(4).max(4), 0);
        if words.len() > self.words_max {
            let (needs, most) = (words.len() * 4, self.words_max * 4);
            let why = format!("its weights take {needs} bytes, the GPU gives a shader at most {most}");
            return Err(CompileError::Failed { why });
        }
        if self.chunks.last().is_none_or(|last| last.len() + words.len() > self.words_max) {
            self.chunks.push(Vec::new());
        }
        let chunk = self.chunks.len() - 1;
        let start = self.chunks[chunk].len() / 4;
        self.chunks[chunk].append(&mut words);
        Ok((chunk, start as u32))
    }
}

/// Makes dispatches of the steps of one plan.
pub(crate) struct Builder<'a> {
    /// The plan, with offsets assigned.
    pub(crate) plan: &'a Plan,
    /// Functions of bytes, as the processor computes them.
    pub(crate) tables: &'a dyn Tables,
    /// How many more tables of pairs of bytes this plan may have.
    pairs_left: usize,
    /// What the kernels need.
    pub(crate) constants: Constants,
    /// Where constant operands lie, behind the plan's own arena: the buffer, and the byte.
    pub(crate) fixed: Vec<(BufferId, usize)>,
    /// Where the scratch memory of steps begins.
    scratch_start: usize,
    /// What the step at hand has of it.
    scratch_used: usize,
    /// Fewest invocations that keep the device busy.
    pub(crate) invocations_min: usize,
    /// The fewest and the most lanes of its subgroups, where lanes shall share what they read.
    pub(crate) subgroup: Option<[u32; 2]>,
    /// Bytes of the arena with all that lies behind it.
    pub(crate) arena_bytes: usize,
}

impl<'a> Builder<'a> {
    /// For a plan, whose constant operands get places.
    pub(crate) fn new(plan: &'a Plan, tables: &'a dyn Tables, buffer_bytes_max: u64) -> Self {
        let mut end = room(plan.arena_bytes);
        let mut fixed: Vec<(BufferId, usize)> = Vec::new();
        for id in plan.steps.iter().flat_map(|step| &step.inputs) {
            let buffer = plan.buffer(*id);
            if matches!(buffer.place, Place::Constant(_)) && !fixed.iter().any(|(other, _)| other == id) {
                fixed.push((*id, end));
                end += room(buffer.size_bytes());
            }
        }
        let constants = Constants::new(buffer_bytes_max);
        Self {
            invocations_min: 0,
            subgroup: None,
            plan,
            tables,
            pairs_left: PAIRS_MAX,
            constants,
            fixed,
            scratch_start: end,
            scratch_used: 0,
            arena_bytes: end,
        }
    }

    /// Begins a step: the scratch memory of others is free again.
    pub(crate) fn begin(&mut self) {
        self.scratch_used = 0;
    }

    /// What a sum or product makes of each pair of bytes. Nothing where the plan has too many of these: a table is much larger than the
    /// node that asks for it.
    ///
    /// # Errors
    /// The other engine refuses.
    pub(crate) fn pair_table(
        &mut self,
        pair: (QPair, bool),
        meets: Meets,
    ) -> Result<Option<Vec<u8>>, CompileError> {
        let Some(left) = self.pairs_left.checked_sub(1) else { return Ok(None) };
        self.pairs_left = left;
        tables::of_pair(self.tables, pair, meets).map(Some)
    }

    /// The word at which scratch memory of so many bytes begins, for the step at hand.
    pub(crate) fn scratch(&mut self, bytes: usize) -> u32 {
        let start = self.scratch_start + self.scratch_used;
        self.scratch_used += room(bytes);
        self.arena_bytes = self.arena_bytes.max(start + room(bytes));
        words(start)
    }

    /// The word at which an operand begins.
    pub(crate) fn input(&self, step: &Step, index: usize) -> Option<u32> {
        self.place(*step.inputs.get(index)?)
    }

    /// The word at which the result begins.
    pub(crate) fn output(&self, step: &Step) -> Option<u32> {
        self.place(*step.outputs.first()?)
    }

    fn place(&self, id: BufferId) -> Option<u32> {
        let start = match &self.plan.buffer(id).place {
            Place::Arena(offset) => *offset,
            Place::Constant(_) => self.fixed.iter().find(|(other, _)| *other == id)?.1,
            _ => return None,
        };
        (start % 4 == 0).then(|| words(start))
    }

    /// A dispatch of one invocation per unit, with its constants.
    pub(crate) fn dispatch(
        &mut self,
        kernel: impl Into<Kernel>,
        units: u32,
        places: Places,
        block: Block,
    ) -> Result<Dispatch, CompileError> {
        self.dispatch_groups(kernel, groups(units), places, block)
    }

    /// A dispatch of so many workgroups.
    pub(crate) fn dispatch_groups(
        &mut self,
        kernel: impl Into<Kernel>,
        groups: [u32; 3],
        places: Places,
        block: Block,
    ) -> Result<Dispatch, CompileError> {
        let (chunk, constants) = self.constants.add(block)?;
        Ok(Dispatch { kernel: kernel.into(), places: Places { constants, ..places }, chunk, groups })
    }
}

/// Memory for so many bytes, so that whole words can be written and what comes next is aligned.
const fn room(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT_BYTES) + SLACK_BYTES
}

/// The word of a byte that begins one. An arena is smaller than shaders can count words, which is checked before it is made.
const fn words(byte: usize) -> u32 {
    (byte / 4) as u32
}

/// A size as shaders have it.
///
/// # Errors
/// It is beyond u32.
pub(crate) fn size(value: usize) -> Result<u32, CompileError> {
    u32::try_from(value).map_err(|_| CompileError::Failed {
        why: format!("a size of {value} is more than a shader can count to"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(words: u32) -> Block {
        let mut block = Block::default();
        block.words(0..words);
        block
    }

    #[test]
    fn constants_go_on_in_another_buffer_where_one_is_full() {
        let mut constants = Constants::new(64);
        let places = [1, 8, 5, 16].map(|words| constants.add(block(words)).expect("fits"));
        assert_eq!(places, [(0, 0), (0, 1), (1, 0), (2, 0)]);
        assert_eq!(constants.chunks.iter().map(Vec::len).collect::<Vec<_>>(), [12, 8, 16]);
        let error = constants.add(block(17)).expect_err("more than a buffer holds");
        assert!(error.to_string().contains("80 bytes"), "{error}");
    }

    #[test]
    fn parts_of_a_block_begin_at_whole_vectors() {
        let mut block = Block::default();
        assert_eq!(block.bytes(&[1, 2, 3, 4, 5]), 0);
        assert_eq!(block.floats([1.0]), 1);
        assert_eq!(block.words([7; 4]), 2);
        assert_eq!(block.words.len(), 12);
        assert_eq!(block.words[..3], [0x0403_0201, 5, 0]);
    }
}
