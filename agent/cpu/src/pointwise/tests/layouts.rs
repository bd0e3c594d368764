//! Copies and resizing against plain loops, and resizing against ONNX Runtime.

use super::{bytes, floats, onnxruntime as ort};
use crate::{
    isa::Isa,
    pointwise::{
        layout::{
            PadMode, Strided, concatenate, concatenate_with, contiguous, pad_map, select, take, transpose,
        },
        resize::{self, Axis, Coordinates, Linear, Nearest},
    },
};
use proptest::prelude::*;

fn axis(input: usize, output: usize, coordinates: Coordinates) -> Axis {
    Axis { input, output, scale: output as f32 / input as f32, coordinates }
}

#[test]
fn resized_pixels_are_those_of_onnx_runtime() {
    let input = bytes(24, 6);
    for (isa, signed) in Isa::available().flat_map(|isa| [(isa, false), (isa, true)]) {
        for (coordinates, fixed, wanted) in [
            (Coordinates::HalfPixel, true, [&ort::LINEAR_FIXED_U8, &ort::LINEAR_FIXED_S8]),
            (Coordinates::AlignCorners, false, [&ort::LINEAR_U8, &ort::LINEAR_S8]),
        ] {
            let linear = Linear::new(2, [axis(3, 5, coordinates), axis(4, 7, coordinates)], signed, fixed);
            let mut out = vec![0; 70];
            let (first, rest) = out.split_at_mut(linear.row_len());
            resize::linear_u8(isa, &linear, &input, 0..1, first);
            resize::linear_u8(isa, &linear, &input, 1..5, rest);
            assert_eq!(out, wanted[usize::from(signed)], "{isa}");
        }
    }
    let nearest = |axis: Axis, mode| axis.nearest(mode).into_iter().map(|at| at as u8).collect::<Vec<u8>>();
    assert_eq!(nearest(axis(20, 6, Coordinates::HalfPixel), Nearest::RoundPreferCeil), ort::NEAREST_CEIL);
    assert_eq!(nearest(axis(14, 19, Coordinates::HalfPixel), Nearest::RoundPreferFloor), ort::NEAREST_FLOOR);
    assert_eq!(nearest(axis(15, 8, Coordinates::Asymmetric), Nearest::Floor), ort::NEAREST_ASYMMETRIC);
}

#[test]
fn places_follow_the_coordinates() {
    let at = |coordinates, output| {
        (0..output).map(|x| axis(4, output, coordinates).original(x)).collect::<Vec<f32>>()
    };
    assert_eq!(at(Coordinates::HalfPixel, 8)[..3], [-0.25, 0.25, 0.75]);
    assert_eq!(at(Coordinates::HalfPixelSymmetric, 8)[..3], [-0.25, 0.25, 0.75]);
    assert_eq!(at(Coordinates::PytorchHalfPixel, 1), [0.0]);
    assert_eq!(at(Coordinates::Asymmetric, 8)[..3], [0.0, 0.5, 1.0]);
    assert_eq!(at(Coordinates::AlignCorners, 7)[..3], [0.0, 0.5, 1.0]);
    assert_eq!(at(Coordinates::AlignCorners, 1), [0.0]);
    assert_eq!(at(Coordinates::TfHalfPixel, 8)[..2], [0.25, 0.75]);
    assert_eq!(axis(4, 2, Coordinates::Asymmetric).nearest(Nearest::Simple), [0, 2]);
    assert_eq!(axis(3, 5, Coordinates::Asymmetric).nearest(Nearest::Ceil), [0, 1, 2, 2, 2]);
}

#[test]
fn images_are_resized_each_on_its_own() {
    let shape = [2, 3, 5];
    let input = floats(2 * 30, 1);
    let (down, across) = (axis(2, 4, Coordinates::Asymmetric), axis(3, 6, Coordinates::Asymmetric));
    let maps = [down.nearest(Nearest::Floor), across.nearest(Nearest::Floor)];
    let mut out = vec![0.0; 2 * 4 * 6 * 5];
    resize::nearest([&maps[0], &maps[1]], shape, &input, 0..8, &mut out);
    for (at, value) in out.iter().enumerate() {
        let (image, y, x, channel) = (at / 120, at / 30 % 4, at / 5 % 6, at % 5);
        assert_eq!(*value, input[image * 30 + (y / 2 * 3 + x / 2) * 5 + channel]);
    }
    let linear = Linear::new(5, [down, across], false, false);
    for isa in Isa::available() {
        let mut smooth = vec![0.0; out.len()];
        resize::linear(isa, &linear, &input, 0..8, &mut smooth);
        for at in (0..out.len()).filter(|at| at / 30 % 4 % 2 == 0 && at / 5 % 6 % 2 == 0) {
            assert!((smooth[at] - out[at]).abs() < 1e-5, "{isa}");
        }
    }
}

#[test]
fn parts_are_put_side_by_side() {
    let mut out = [0; 10];
    concatenate(2, &[1, 2, 3, 4], 0, 5, &mut out);
    concatenate_with(3, &[1, 2, 3, 4, 5, 6], 2, 5, &mut out, |input, output| {
        output.iter_mut().zip(input).for_each(|(out, value)| *out = value * 10);
    });
    assert_eq!(out, [1, 2, 10, 20, 30, 3, 4, 40, 50, 60]);
}

#[test]
fn padding_repeats_mirrors_or_wraps() {
    let of =
        |mode| pad_map(mode, 3, 2, 8).into_iter().map(|at| at.map_or(9, |at| at)).collect::<Vec<usize>>();
    assert_eq!(of(PadMode::Constant), [9, 9, 0, 1, 2, 9, 9, 9]);
    assert_eq!(of(PadMode::Edge), [0, 0, 0, 1, 2, 2, 2, 2]);
    assert_eq!(of(PadMode::Reflect), [2, 1, 0, 1, 2, 1, 0, 1]);
    assert_eq!(of(PadMode::Wrap), [1, 2, 0, 1, 2, 0, 1, 2]);
    assert_eq!(pad_map(PadMode::Reflect, 1, 1, 3), [Some(0); 3]);
    let mut out = [0; 12];
    take(&[None, Some(1), Some(0)], 2, 2, 7, &[1, 2, 3, 4, 5, 6, 7, 8], &mut out);
    assert_eq!(out, [7, 7, 3, 4, 1, 2, 7, 7, 7, 8, 5, 6]);
}

#[test]
fn slices_step_backwards_and_expansions_repeat() {
    let input = bytes(24, 1);
    let slice = Strided::slice(&[4, 6], &[3, 1], &[-2, 2], &[2, 3]).expect("fits");
    let mut out = [0; 6];
    slice.copy(&input, 0..slice.rows(), &mut out);
    assert_eq!(out, [19, 21, 23, 7, 9, 11].map(|at| input[at]));
    let back = Strided::slice(&[6], &[5], &[-1], &[6]).expect("fits");
    back.copy(&input[..6], 0..back.rows(), &mut out);
    assert_eq!(out, [5, 4, 3, 2, 1, 0].map(|at| input[at]));
    let expand = Strided::expand(&[2, 1], &[3, 2, 2]).expect("fits");
    let mut out = [0; 12];
    expand.copy(&[8, 9], 0..expand.rows(), &mut out);
    assert_eq!(out, [8, 8, 9, 9, 8, 8, 9, 9, 8, 8, 9, 9]);
    assert_eq!(contiguous(&[2, 3, 4]), [12, 4, 1]);
}

#[test]
fn masks_select() {
    let mut out = [0; 3];
    select(&[1, 0, 2], &[1, 2, 3], &[7, 8, 9], &mut out);
    assert_eq!(out, [1, 8, 3]);
    select(&[1, 0, 2], &[1], &[7, 8, 9], &mut out);
    assert_eq!(out, [1, 8, 1]);
    select(&[0, 0, 2], &[1, 2, 3], &[5], &mut out);
    assert_eq!(out, [5, 5, 3]);
    select(&[1, 0, 2], &[1], &[5], &mut out);
    assert_eq!(out, [1, 5, 1]);
    select(&[0], &[1, 2, 3], &[7, 8, 9], &mut out);
    assert_eq!(out, [7, 8, 9]);
}

fn check_transpose<T: bytemuck::Pod + PartialEq + std::fmt::Debug>(
    (rows, columns, first): (usize, usize, usize),
    of: impl Fn(usize) -> T,
) {
    let input: Vec<T> = (0..rows * columns).map(of).collect();
    let mut out = vec![T::zeroed(); rows * (columns - first)];
    transpose(columns, &input, first, &mut out);
    for (at, value) in out.iter().enumerate() {
        assert_eq!(*value, input[at % rows * columns + at / rows + first]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn matrices_are_transposed((rows, columns, first) in (1usize..60, 1usize..60, 0usize..60)) {
        let shape = (rows, columns, first % columns);
        check_transpose(shape, |at| (at * 7) as u8);
        check_transpose(shape, |at| at as u16);
        check_transpose(shape, |at| at as f32);
        check_transpose(shape, |at| at as u64);
    }

    #[test]
    fn axes_are_permuted(shape in prop::collection::vec(1usize..5, 1..6), seed in 0usize..1000) {
        let mut order: Vec<usize> = (0..shape.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, seed / (at + 1) % (at + 1));
        }
        let len: usize = shape.iter().product();
        let input: Vec<u32> = (0..len as u32).collect();
        let copy = Strided::permutation(&shape, &order).expect("fits");
        prop_assert_eq!(copy.rows() * copy.row_len(), len);
        let (mut out, half) = (vec![0; len], copy.rows() / 2);
        let (first, rest) = out.split_at_mut(half * copy.row_len());
        copy.copy(&input, 0..half, first);
        copy.copy(&input, half..copy.rows(), rest);
        let strides = contiguous(&shape);
        for (at, value) in out.iter().enumerate() {
            let (mut rest, mut from) = (at, 0);
            for axis in order.iter().rev() {
                from += rest % shape[*axis] * strides[*axis] as usize;
                rest /= shape[*axis];
            }
            prop_assert_eq!(*value, input[from]);
        }
    }
}
