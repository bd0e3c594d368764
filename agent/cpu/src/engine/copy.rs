//! Concatenation and transposition of elements of any size, by their bytes.

use super::layer::Transpose;
use crate::pointwise::layout::{Strided, transpose};

/// Copies an input's part of each of `outer` blocks to its place within the whole.
pub(super) fn concatenate(outer: usize, sizes: &[usize], index: usize, input: &[u8], output: &mut [u8]) {
    let whole: usize = sizes.iter().sum();
    let (part, offset) = (sizes[index], sizes[..index].iter().sum::<usize>());
    if part == 0 {
        return;
    }
    for block in 0..outer {
        let to = block * whole + offset;
        output[to..to + part].copy_from_slice(&input[block * part..(block + 1) * part]);
    }
}

/// Transposes elements of a power of two of bytes.
pub(super) fn transposed(kind: &Transpose, element_bytes: usize, input: &[u8], output: &mut [u8]) {
    match element_bytes {
        1 => of_elements::<u8>(kind, input, output),
        2 => of_elements::<u16>(kind, bytemuck::cast_slice(input), bytemuck::cast_slice_mut(output)),
        4 => of_elements::<u32>(kind, bytemuck::cast_slice(input), bytemuck::cast_slice_mut(output)),
        _ => of_elements::<u64>(kind, bytemuck::cast_slice(input), bytemuck::cast_slice_mut(output)),
    }
}

fn of_elements<T: bytemuck::Pod>(kind: &Transpose, input: &[T], output: &mut [T]) {
    match kind {
        Transpose::Matrices { count, columns } => {
            let len = input.len() / (*count).max(1);
            if len == 0 {
                return;
            }
            for (input, output) in input.chunks_exact(len).zip(output.chunks_exact_mut(len)) {
                transpose(*columns, input, 0, output);
            }
        }
        Transpose::Any(strided) => strided.copy(input, 0..Strided::rows(strided), output),
    }
}
