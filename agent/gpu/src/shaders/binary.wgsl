// An operator of two f32 that broadcast: four results for each invocation.

// Which operator: the numbers are those of `operator` in pointwise.rs.
override kind: u32;
override elements: u32;
// How each operand is read: 0 as the result lies, 1 one element throughout, 2 one row again and again, 3 by axes.
override first: u32;
override second: u32;
// Elements of that row.
override row_len: u32;

fn combined(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    switch kind {
        case 0u: { return a + b; }
        case 1u: { return a - b; }
        case 2u: { return a * b; }
        case 3u: { return a / b; }
        case 4u: { return min(a, b); }
        case 5u: { return max(a, b); }
        default: { return select(a * b, a, a >= vec4<f32>(0.0)); }
    }
}

fn operand(start: u32, place: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(
        read_float(start, place.x),
        read_float(start, place.y),
        read_float(start, place.z),
        read_float(start, place.w),
    );
}

fn operand_by(way: u32, start: u32, index: vec4<u32>, by_axes: vec4<u32>) -> vec4<f32> {
    switch way {
        case 0u: { return operand(start, index); }
        case 1u: { return vec4<f32>(read_float(start, 0u)); }
        case 2u: { return operand(start, index % row_len); }
        default: { return operand(start, by_axes); }
    }
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
    let i = unit * 4u;
    let last = elements - i - 1u;
    let index = vec4<u32>(i) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
    var places: Meeting;
    if first == 3u || second == 3u {
        places = meeting(index);
    }
    let a = operand_by(first, at.x, index, places.x);
    let b = operand_by(second, at.y, index, places.y);
    write_floats(at.out + i, last, activate(combined(a, b)));
}
