//! Transposition, concatenation, slices and padding, of elements of any plain type.

use super::broadcast::MAX_AXES;
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::x86_64::transpose as blocks;
use bytemuck::Pod;
use std::ops::Range;

/// Elements of one of `channels` planes of `len` elements together.
///
/// # Panics
/// The planes are not whole.
#[inline(always)]
pub(crate) fn plane_size(channels: usize, len: usize) -> usize {
    assert!(channels > 0 && len.is_multiple_of(channels), "{len} elements are not {channels} whole planes");
    len / channels
}

/// Writes planes of `len` bytes as pixels that lie `stride` apart.
pub(crate) fn interleave(
    isa: Isa,
    planes: &[u8],
    [count, len]: [usize; 2],
    stride: usize,
    output: &mut [u8],
) {
    #[cfg(target_arch = "x86_64")]
    let done =
        if [count, stride] == [3, 3] { crate::x86_64::interleave::three(isa, planes, output) } else { 0 };
    #[cfg(not(target_arch = "x86_64"))]
    let (_, done) = (isa, 0);
    transpose_strided(&planes[done..], len, [count, len - done], &mut output[done * stride..], stride);
}

/// Transposes a matrix of `columns` columns: `output` takes the columns from `first` on, each as a row.
///
/// With `columns` the pixels of a channels-first image it makes it channels-last, with `columns` the channels
/// of a channels-last one it makes it channels-first.
///
/// # Panics
/// The slices do not hold whole rows and columns, or the columns lie beyond the input.
pub fn transpose<T: Pod>(columns: usize, input: &[T], first: usize, output: &mut [T]) {
    if output.is_empty() {
        return;
    }
    let rows = plane_size(columns, input.len());
    let count = output.len() / rows;
    assert!(output.len().is_multiple_of(rows) && first + count <= columns, "whole columns of the input");
    transpose_strided(&input[first..], columns, [rows, count], output, rows);
}

/// Transposes `rows x columns` elements, whose rows lie `in_stride` apart, and those of the output
/// `out_stride`.
pub(crate) fn transpose_strided<T: Pod>(
    input: &[T],
    in_stride: usize,
    [rows, columns]: [usize; 2],
    output: &mut [T],
    out_stride: usize,
) {
    let size = block_size::<T>();
    let whole = [rows, columns].map(|length| length - length % size);
    for column in (0..whole[1]).step_by(size) {
        for row in (0..whole[0]).step_by(size) {
            let input = &input[row * in_stride + column..];
            transpose_block(input, in_stride, &mut output[column * out_stride + row..], out_stride);
        }
    }
    for column in 0..columns {
        let from = if column < whole[1] { whole[0] } else { 0 };
        for row in from..rows {
            output[column * out_stride + row] = input[row * in_stride + column];
        }
    }
}

/// Rows and columns transposed at a time.
const fn block_size<T>() -> usize {
    match size_of::<T>() {
        1 => 16,
        4 => 4,
        _ => 8,
    }
}

/// Transposes one block.
#[inline(always)]
fn transpose_block<T: Pod>(input: &[T], in_stride: usize, output: &mut [T], out_stride: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        let size = size_of::<T>();
        if size == 1 || size == 4 {
            let (input, output) = (bytemuck::cast_slice(input), bytemuck::cast_slice_mut(output));
            let block = if size == 1 { blocks::bytes } else { blocks::words };
            return block(input, in_stride * size, output, out_stride * size);
        }
    }
    for column in 0..block_size::<T>() {
        for row in 0..block_size::<T>() {
            output[column * out_stride + row] = input[row * in_stride + column];
        }
    }
}

/// A copy with an axis order, steps, offsets or repetition: output element `(i, j, …)` is the input element
/// at `start + i * strides[0] + j * strides[1] + …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strided {
    lengths: [usize; MAX_AXES],
    strides: [isize; MAX_AXES],
    start: usize,
}

impl Strided {
    /// Of an output's lengths and the strides of its axes in the input; `None` if they need more axes than
    /// [`MAX_AXES`], once neighbouring axes that can be walked as one have been joined.
    ///
    /// # Panics
    /// There are not as many strides as lengths.
    #[must_use]
    pub fn new(lengths: &[usize], strides: &[isize], start: usize) -> Option<Self> {
        assert_eq!(lengths.len(), strides.len(), "a stride per axis");
        let mut axes: Vec<(usize, isize)> = Vec::new();
        for (&length, &stride) in lengths.iter().zip(strides) {
            match axes.last_mut() {
                _ if length == 1 => {}
                Some((last, outer)) if *outer == stride * length as isize => {
                    (*last, *outer) = (*last * length, stride)
                }
                _ => axes.push((length, stride)),
            }
        }
        let unused = MAX_AXES.checked_sub(axes.len())?;
        let mut copy = Self { lengths: [1; MAX_AXES], strides: [0; MAX_AXES], start };
        for (axis, (length, stride)) in axes.into_iter().enumerate() {
            copy.lengths[unused + axis] = length;
            copy.strides[unused + axis] = stride;
        }
        Some(copy)
    }

    /// A transposition of a tensor of `shape`: axis `i` of the output is axis `order[i]` of the input.
    ///
    /// # Panics
    /// `order` is no order of the axes.
    #[must_use]
    pub fn permutation(shape: &[usize], order: &[usize]) -> Option<Self> {
        let strides = contiguous(shape);
        let lengths: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
        let strides: Vec<isize> = order.iter().map(|axis| strides[*axis]).collect();
        Self::new(&lengths, &strides, 0)
    }

    /// A slice of a tensor of `shape`: `lengths` elements along each axis, from `starts` on, `steps` apart.
    ///
    /// # Panics
    /// The slices differ in length.
    #[must_use]
    pub fn slice(shape: &[usize], starts: &[usize], steps: &[isize], lengths: &[usize]) -> Option<Self> {
        let strides = contiguous(shape);
        let start = starts.iter().zip(&strides).map(|(start, stride)| start * stride.unsigned_abs()).sum();
        let strides: Vec<isize> = strides.iter().zip(steps).map(|(stride, step)| stride * step).collect();
        Self::new(lengths, &strides, start)
    }

    /// A tensor of `shape` repeated along axes of length 1 (or missing leading ones) to become `output`.
    ///
    /// # Panics
    /// `shape` has more axes than `output`.
    #[must_use]
    pub fn expand(shape: &[usize], output: &[usize]) -> Option<Self> {
        let missing = output.len() - shape.len();
        let own = contiguous(shape);
        let strides: Vec<isize> = (0..output.len())
            .map(|axis| if axis < missing || shape[axis - missing] == 1 { 0 } else { own[axis - missing] })
            .collect();
        Self::new(output, &strides, 0)
    }

    /// Elements of a row of the output, which is copied at a time.
    #[must_use]
    pub const fn row_len(&self) -> usize {
        self.lengths[MAX_AXES - 1]
    }

    /// Rows of the output.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.lengths[..MAX_AXES - 1].iter().product()
    }

    fn row_start(&self, row: usize) -> usize {
        let (mut rest, mut start) = (row, self.start as isize);
        for axis in (0..MAX_AXES - 1).rev() {
            let length = self.lengths[axis].max(1);
            start += (rest % length) as isize * self.strides[axis];
            rest /= length;
        }
        start as usize
    }

    /// Copies the rows `rows` of the output.
    ///
    /// # Panics
    /// The output is not as long as its rows, or the input is shorter than the strides reach.
    pub fn copy<T: Copy>(&self, input: &[T], rows: Range<usize>, output: &mut [T]) {
        assert_eq!(output.len(), rows.len() * self.row_len(), "the output holds its rows");
        let stride = self.strides[MAX_AXES - 1];
        for (row, output) in rows.zip(output.chunks_exact_mut(self.row_len().max(1))) {
            let start = self.row_start(row);
            match stride {
                1 => output.copy_from_slice(&input[start..][..output.len()]),
                0 => output.fill(input[start]),
                2.. => {
                    let step = stride.unsigned_abs();
                    let end = start + (output.len() - 1) * step;
                    let from = input[start..=end].iter().step_by(step);
                    output.iter_mut().zip(from).for_each(|(out, value)| *out = *value);
                }
                _ => {
                    for (index, out) in output.iter_mut().enumerate() {
                        *out = input[(start as isize + index as isize * stride) as usize];
                    }
                }
            }
        }
    }
}

/// Elements between neighbours along each axis of a tensor without gaps.
#[must_use]
pub fn contiguous(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as isize;
    }
    strides
}

/// Concatenates: an input whose part of each outer index has `part` elements goes `offset` elements into the
/// output's, which has `whole`. Channels-last tensors along their channels have those as parts.
///
/// # Panics
/// The slices do not hold as many whole parts.
pub fn concatenate<T: Copy>(part: usize, input: &[T], offset: usize, whole: usize, output: &mut [T]) {
    concatenate_with(part, input, offset, whole, output, |input, output| output.copy_from_slice(input));
}

/// As [`concatenate`], each part copied by `copy`, such as a requantising [`super::lut::lut`].
///
/// # Panics
/// The slices do not hold as many whole parts.
pub fn concatenate_with<T>(
    part: usize,
    input: &[T],
    offset: usize,
    whole: usize,
    output: &mut [T],
    mut copy: impl FnMut(&[T], &mut [T]),
) {
    if input.is_empty() {
        return;
    }
    assert!(part > 0 && offset + part <= whole, "the part lies within the whole");
    assert_eq!(input.len() / part, output.len() / whole, "as many parts as wholes");
    for (input, output) in input.chunks_exact(part).zip(output.chunks_exact_mut(whole)) {
        copy(input, &mut output[offset..][..part]);
    }
}

/// How the outside of a padded tensor is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PadMode {
    /// With one value.
    Constant,
    /// With the nearest element.
    Edge,
    /// With the elements mirrored at the outermost ones, which are not repeated.
    Reflect,
    /// With the elements of the other end.
    Wrap,
}

/// Padding of one axis: where along the input each place along the output comes from; `None` for the value.
#[must_use]
pub fn pad_map(mode: PadMode, length: usize, before: usize, output: usize) -> Vec<Option<usize>> {
    let of = |at: usize| {
        let place = at as isize - before as isize;
        let size = length as isize;
        if (0..size).contains(&place) {
            return Some(place as usize);
        }
        let mapped = match mode {
            PadMode::Constant => return None,
            _ if length == 0 => return None,
            PadMode::Edge => place.clamp(0, size - 1),
            PadMode::Wrap => place.rem_euclid(size),
            PadMode::Reflect if length == 1 => 0,
            PadMode::Reflect => {
                let period = 2 * (size - 1);
                let at = place.rem_euclid(period);
                at.min(period - at)
            }
        };
        Some(mapped as usize)
    };
    (0..output).map(of).collect()
}

/// Chooses element by element: from `a` where `mask` is not 0, from `b` elsewhere. Any of the three may be a single
/// element.
///
/// # Panics
/// One of them has neither one element nor as many as the output.
pub fn select<T: Copy>(mask: &[u8], a: &[T], b: &[T], output: &mut [T]) {
    let len = output.len();
    assert!(
        [mask.len(), a.len(), b.len()].iter().all(|l| *l == len || *l == 1),
        "as many elements, or single ones"
    );
    if let ([x], [y]) = (a, b) {
        let (x, y) = (*x, *y);
        each(mask, output, |mask, out, _| *out = if mask != 0 { x } else { y });
    } else if let [x] = a {
        each(mask, output, |mask, out, at| *out = if mask != 0 { *x } else { b[at] });
    } else if let [y] = b {
        each(mask, output, |mask, out, at| *out = if mask != 0 { a[at] } else { *y });
    } else {
        each(mask, output, |mask, out, at| *out = if mask != 0 { a[at] } else { b[at] });
    }
}

/// Calls `choose` with the mask of every output element, its place in the output, and its number.
#[inline(always)]
fn each<T>(mask: &[u8], output: &mut [T], choose: impl Fn(u8, &mut T, usize)) {
    if let [mask] = mask {
        output.iter_mut().enumerate().for_each(|(at, out)| choose(*mask, out, at));
    } else {
        output.iter_mut().zip(mask).enumerate().for_each(|(at, (out, mask))| choose(*mask, out, at));
    }
}

/// Takes whole runs of `inner` elements along an axis: run `i` of each outer index of the output is run
/// `map[i]` of the input's, or `value` throughout. That is padding of one axis, and also gathering.
///
/// # Panics
/// The slices do not hold whole outer indices, or the map reaches beyond the input.
pub fn take<T: Copy>(
    map: &[Option<usize>],
    length: usize,
    inner: usize,
    value: T,
    input: &[T],
    output: &mut [T],
) {
    if output.is_empty() {
        return;
    }
    assert!(output.len().is_multiple_of(map.len() * inner), "whole outer indices");
    for (outer, output) in output.chunks_exact_mut(map.len() * inner).enumerate() {
        for (from, output) in map.iter().zip(output.chunks_exact_mut(inner)) {
            match from {
                Some(from) => output.copy_from_slice(&input[(outer * length + from) * inner..][..inner]),
                None => output.fill(value),
            }
        }
    }
}
