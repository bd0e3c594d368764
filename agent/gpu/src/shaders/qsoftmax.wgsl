// Softmax of rows of bytes. The kernel's constants are the exponential of each byte where the greatest of a row is 255. They are summed
// in the order of the row, and divided as `divide.wgsl` does, so that the result is the same on any device.

override row_len: u32;
override elements: u32;
// The output's steps per unit, and its zero point.
override factor: f32;
override zero: u32;

fn exponential(byte: u32) -> f32 {
    return bitcast<f32>(constant_word(byte));
}

fn share(element: u32) -> u32 {
    let within = min(element, elements - 1u);
    let start = within / row_len * row_len;
    var greatest = 0u;
    for (var i = 0u; i < row_len; i++) {
        greatest = max(greatest, read_byte(at.x, start + i));
    }
    var sum = 0.0;
    for (var i = 0u; i < row_len; i++) {
        sum += exponential(read_byte(at.x, start + i) + 255u - greatest);
    }
    let product = exponential(read_byte(at.x, within) + 255u - greatest) * factor;
    let quotient = divided(bitcast<u32>(product), bitcast<u32>(sum));
    return min(u32(round(min(quotient, 255.0))) + zero, 255u);
}

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let unit = unit_of(group, groups, local);
    if unit < units {
        let i = unit * 4u;
        arena[at.out + unit] = packed(vec4<u32>(share(i), share(i + 1u), share(i + 2u), share(i + 3u)));
    }
}
