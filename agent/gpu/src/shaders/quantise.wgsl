// f32 to bytes: a true division by the scale, rounded half to even, as if each step were rounded by itself. Devices divide less
// exactly than that, so a product decides all but what comes near a tie, and there a division in integers.

override scale: f32;
override reciprocal: f32;
override zero: i32;
override low: f32;
override high: f32;

fn quantised(index: u32) -> u32 {
    let word = arena[at.x + source(index)];
    let size = word & 0x7fffffffu;
    let negative = (word >> 31u) != 0u;
    if size > 0x7f800000u {
        // Not a number: the lowest.
        return u32(i32(low) + zero);
    }
    let value = min(bitcast<f32>(size), 3.0e38) * reciprocal;
    var steps = clamp(select(value, -value, negative), low, high);
    if abs(steps - round(steps)) > 0.4998 {
        let quotient = divided(size, bitcast<u32>(scale));
        steps = clamp(select(quotient, -quotient, negative), low, high);
    }
    return u32(i32(round(steps)) + zero);
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
        let bytes = vec4<u32>(quantised(i), quantised(i + 1u), quantised(i + 2u), quantised(i + 3u));
        arena[at.out + unit] = packed(bytes);
    }
}
