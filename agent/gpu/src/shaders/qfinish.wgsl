// What becomes of exact sums of bytes. Only products are rounded before the rounding to an integer, so that the result does not depend
// on whether a device fuses a product and a sum; the sum with a residual, whose rounding would depend on it, is
// made as in qpair.wgsl.

// 0: bytes, 1: the sums, 2: floats.
override finish: u32;
override zero: i32;
override low: f32;
override high: f32;
// 0: none, 1: own bytes are the first operand of the sum, 2: the second.
override residual: u32;
// Vectors of four output channels in a pixel.
override out_blocks: u32;
// Where these begin in the kernel's constants, in vectors of four words.
override bias_at: u32;
override multiplier_at: u32;
override offset_at: u32;

// Stores four channels of a pixel.
fn store_pixel(pixel: u32, block: u32, products: vec4<i32>) {
    if pixel >= pixels || block >= out_blocks {
        return;
    }
    let sums = products + bitcast<vec4<i32>>(constants[at.constants + bias_at + block]);
    let word = pixel * out_blocks + block;
    if finish == 0u {
        let multiplier = bitcast<vec4<f32>>(constants[at.constants + multiplier_at + block]);
        let scaled = clamp(vec4<f32>(sums) * multiplier, vec4<f32>(low), vec4<f32>(high));
        var bytes = vec4<u32>(vec4<i32>(round(scaled)) + zero);
        if residual != 0u {
            let other = unpacked(arena[at.y + word]);
            bytes = paired(select(other, bytes, residual == 1u), select(bytes, other, residual == 1u));
        }
        arena[at.out + word] = packed(bytes);
        return;
    }
    var words = bitcast<vec4<u32>>(sums);
    if finish == 2u {
        let multiplier = bitcast<vec4<f32>>(constants[at.constants + multiplier_at + block]);
        let offset = bitcast<vec4<f32>>(constants[at.constants + offset_at + block]);
        words = bitcast<vec4<u32>>(vec4<f32>(sums) * multiplier + offset);
    }
    let start = at.out + word * 4u;
    arena[start] = words.x;
    arena[start + 1u] = words.y;
    arena[start + 2u] = words.z;
    arena[start + 3u] = words.w;
}
