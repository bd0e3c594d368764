//! Which elements meet when two shapes differ.

use std::ops::Range;

/// The greatest number of axes, after neighbouring axes that behave alike have become one.
pub const MAX_AXES: usize = 6;

/// Two shapes broadcast to one, as rows: along a row each operand either advances by one element or stands
/// still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broadcast {
    /// Lengths of the outer axes, then that of a row. Unused leading axes have length 1.
    lengths: [usize; MAX_AXES],
    /// Elements between neighbours along each axis, of either operand.
    strides: [[usize; MAX_AXES]; 2],
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub index: usize,
    /// Where either operand starts.
    pub starts: [usize; 2],
}

impl Broadcast {
    /// Of two shapes, the last axes aligned; `None` where they do not fit together or need more axes than
    /// [`MAX_AXES`].
    #[must_use]
    pub fn new(a: &[usize], b: &[usize]) -> Option<Self> {
        let mut axes: Vec<(usize, [bool; 2])> = Vec::new();
        for axis in 0..a.len().max(b.len()) {
            let of = |shape: &[usize]| {
                let missing = a.len().max(b.len()) - shape.len();
                if axis < missing { 1 } else { shape[axis - missing] }
            };
            let (x, y) = (of(a), of(b));
            let length = if x == y || y == 1 {
                x
            } else if x == 1 {
                y
            } else {
                return None;
            };
            let moves = [x == length && length != 1, y == length && length != 1];
            match axes.last_mut() {
                _ if length == 1 => {}
                Some((last, same)) if *same == moves => *last *= length,
                _ => axes.push((length, moves)),
            }
        }
        Self::of_axes(&axes)
    }

    fn of_axes(axes: &[(usize, [bool; 2])]) -> Option<Self> {
        let mut broadcast = Self { lengths: [1; MAX_AXES], strides: [[0; MAX_AXES]; 2] };
        let unused = MAX_AXES.checked_sub(axes.len())?;
        for operand in 0..2 {
            let mut stride = 1;
            for (axis, (length, moves)) in axes.iter().enumerate().rev() {
                broadcast.lengths[unused + axis] = *length;
                if moves[operand] {
                    broadcast.strides[operand][unused + axis] = stride;
                    stride *= length;
                }
            }
        }
        Some(broadcast)
    }

    /// Elements of a row of the output.
    #[must_use]
    pub const fn row_len(&self) -> usize {
        self.lengths[MAX_AXES - 1]
    }

    /// Rows of the output.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.lengths[..MAX_AXES - 1].iter().product()
    }

    /// Elements that either operand uses for a row: a row's length, or 1.
    #[must_use]
    pub fn operand_row_len(&self) -> [usize; 2] {
        self.strides
            .map(|strides| if strides[MAX_AXES - 1] == 1 { self.row_len() } else { self.row_len().min(1) })
    }

    /// Whether the second operand is one row, which meets every row of the first.
    #[must_use]
    pub fn repeats_one_row(&self) -> bool {
        let [first, second] = &self.strides;
        let outer = ..MAX_AXES - 1;
        self.operand_row_len() == [self.row_len(); 2]
            && second[outer].iter().all(|stride| *stride == 0)
            && first[outer].iter().zip(&self.lengths).all(|(stride, length)| *stride != 0 || *length == 1)
    }

    /// The rows of `range`, in order.
    pub fn row_starts(&self, range: Range<usize>) -> impl Iterator<Item = Row> + '_ {
        range.map(|index| {
            let (mut rest, mut starts) = (index, [0; 2]);
            for axis in (0..MAX_AXES - 1).rev() {
                let at = rest % self.lengths[axis].max(1);
                rest /= self.lengths[axis].max(1);
                for (start, strides) in starts.iter_mut().zip(&self.strides) {
                    *start += at * strides[axis];
                }
            }
            Row { index, starts }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_axes_become_one_and_strides_follow() {
        let channels = Broadcast::new(&[1, 7, 7, 64], &[64]).expect("fits");
        assert_eq!((channels.rows(), channels.row_len(), channels.operand_row_len()), (49, 64, [64, 64]));
        assert!(channels.repeats_one_row());
        let same = Broadcast::new(&[2, 3], &[2, 3]).expect("fits");
        assert_eq!((same.rows(), same.row_len()), (1, 6));
        let per_plane = Broadcast::new(&[3, 4, 5], &[3, 1, 1]).expect("fits");
        assert_eq!((per_plane.rows(), per_plane.row_len(), per_plane.operand_row_len()), (3, 20, [20, 1]));
        assert_eq!(per_plane.row_starts(1..2).next(), Some(Row { index: 1, starts: [20, 1] }));
        assert!(!per_plane.repeats_one_row());
        assert_eq!(Broadcast::new(&[2], &[3]), None);
        let outer = Broadcast::new(&[4, 1], &[1, 5]).expect("fits");
        assert_eq!((outer.rows(), outer.row_len(), outer.operand_row_len()), (4, 5, [1, 5]));
        let scalar = Broadcast::new(&[], &[2, 0]).expect("fits");
        assert_eq!(scalar.rows() * scalar.row_len(), 0);
    }
}
