//! How the weights of a dense convolution lie: panels of output channels, entries of four bytes of K.

use super::kernel::LINE_CHANNELS;
use crate::{geometry::Conv2d, isa::Isa};

/// What an entry of four bytes of an input row is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    /// The row is widened to i16: two of them with two i16 weights.
    Pairs16 = 0,
    /// Four u8 with four i8.
    Quads8 = 1,
    /// Four i8 (the input less 128) with four i8.
    Signed8 = 2,
    /// As `Quads8`, but each panel has its own order of the elements within every sixteen of K.
    Shuffled8 = 3,
    /// One of them widened to i16 with one i16; of depthwise layers alone.
    Words16 = 4,
}

impl Format {
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Pairs16),
            1 => Some(Self::Quads8),
            2 => Some(Self::Signed8),
            3 => Some(Self::Shuffled8),
            4 => Some(Self::Words16),
            _ => None,
        }
    }

    /// Elements of K in an entry.
    pub(crate) const fn elements(self) -> usize {
        match self {
            Self::Words16 => 1,
            Self::Pairs16 => 2,
            Self::Quads8 | Self::Signed8 | Self::Shuffled8 => 4,
        }
    }
}

impl Format {
    /// Bytes of one element, as kernels read it.
    pub(crate) const fn element_bytes(self) -> usize {
        match self {
            Self::Words16 | Self::Pairs16 => 2,
            Self::Quads8 | Self::Signed8 | Self::Shuffled8 => 1,
        }
    }

    /// Bytes of an interleaved column of a depthwise layer.
    pub(crate) const fn column_bytes(self) -> usize {
        LINE_CHANNELS * self.elements() * self.element_bytes()
    }
}

/// Bytes of an input row that an entry reads, and of each column's weights in it.
pub(crate) const ENTRY_BYTES: usize = 4;

/// Elements of K that are ordered among themselves.
pub(crate) const SHUFFLED: usize = 16;

/// The sizes of the packed form, which follow from those of the convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) format: Format,
    /// Output channels of one vector.
    pub(crate) lanes: usize,
    /// Most vectors of a panel.
    most: usize,
    /// Output channels of one group.
    pub(crate) columns: usize,
    /// Input channels of one group.
    pub(crate) in_c: usize,
    /// Kernel taps whose channels lie side by side in the input: a run of K.
    pub(crate) run_taps: usize,
    /// Runs of K.
    pub(crate) runs: usize,
    pub(crate) groups: usize,
}

impl Layout {
    pub(crate) fn new(isa: Isa, format: Format, geometry: &Conv2d) -> Self {
        let single = geometry.out_pixels() == 1;
        let (lanes, most) = match isa {
            Isa::Generic => (8, 1),
            Isa::Avx2 | Isa::AvxVnni if single => (8, 4),
            Isa::Avx2 | Isa::AvxVnni => (8, 2),
            Isa::Avx512Vnni => (16, 4),
            Isa::Neon => (8, 2),
            Isa::NeonDotprod | Isa::NeonI8mm => (4, 4),
        };
        let in_c = geometry.in_c / geometry.groups;
        let taps = geometry.kernel_h * geometry.kernel_w;
        let run_taps = if geometry.dilation_w == 1 && geometry.groups == 1 { geometry.kernel_w } else { 1 };
        Self {
            format,
            lanes,
            most,
            columns: geometry.out_c / geometry.groups,
            in_c,
            run_taps,
            runs: taps / run_taps,
            groups: geometry.groups,
        }
    }

    /// Entries that hold a run of K.
    pub(crate) const fn run_entries(&self) -> usize {
        let run = self.run_taps * self.in_c;
        match self.format {
            Format::Shuffled8 => run.div_ceil(SHUFFLED) * (SHUFFLED / ENTRY_BYTES),
            _ => run.div_ceil(self.format.elements()),
        }
    }

    /// Entries that hold all of K.
    pub(crate) const fn entries(&self) -> usize {
        self.runs * self.run_entries()
    }

    /// Weights of one output channel.
    pub(crate) const fn column_weights(&self) -> usize {
        self.runs * self.run_taps * self.in_c
    }

    /// Bytes that say how a panel orders the elements of a row.
    pub(crate) const fn shuffle_bytes(&self) -> usize {
        match self.format {
            Format::Shuffled8 => self.row_bytes(),
            _ => 0,
        }
    }

    /// Bytes of an input row, as the kernel reads it.
    pub(crate) const fn row_bytes(&self) -> usize {
        self.entries() * ENTRY_BYTES
    }

    const fn vectors(&self) -> usize {
        self.columns.div_ceil(self.lanes)
    }

    /// Output channels of a group with those that fill its last vector.
    pub(crate) const fn padded_columns(&self) -> usize {
        self.vectors() * self.lanes
    }

    /// Panels of a group, as equal as vectors allow.
    pub(crate) const fn panels(&self) -> usize {
        self.vectors().div_ceil(self.most)
    }

    /// The first vector of a panel and its count of them.
    pub(crate) const fn panel(&self, panel: usize) -> (usize, usize) {
        let (each, more) = (self.vectors() / self.panels(), self.vectors() % self.panels());
        let before = if panel < more { panel } else { more };
        (panel * each + before, each + (panel < more) as usize)
    }

    /// Columns of the widest panel.
    pub(crate) const fn widest(&self) -> usize {
        self.most * self.lanes
    }
}
