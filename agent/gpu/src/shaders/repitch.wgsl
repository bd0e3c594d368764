// Rows of elements at another pitch: channels filled up to whole words before a convolution, and cut off after it.

// Elements of a row before and after; what is new is `fill`.
override from_pitch: u32;
override to_pitch: u32;
override fill: u32;
// Elements of the result.
override elements: u32;
// Whether elements are bytes, else words.
override bytes: bool;

fn element(index: u32) -> u32 {
    let column = index % to_pitch;
    if column >= from_pitch || index >= elements {
        return fill;
    }
    let taken = index / to_pitch * from_pitch + column;
    if bytes {
        return read_byte(at.x, taken);
    }
    return arena[at.x + taken];
}

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let unit = unit_of(group, groups, local);
    if unit >= units {
        return;
    }
    if bytes {
        let i = unit * 4u;
        arena[at.out + unit] = packed(vec4<u32>(element(i), element(i + 1u), element(i + 2u), element(i + 3u)));
    } else {
        arena[at.out + unit] = element(unit);
    }
}
