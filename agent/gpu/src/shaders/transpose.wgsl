// Axes in another order.

override elements: u32;
override bytes: bool;

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
    let taken = meeting(vec4<u32>(i) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last))).x;
    if bytes {
        let found = vec4<u32>(
            read_byte(at.x, taken.x),
            read_byte(at.x, taken.y),
            read_byte(at.x, taken.z),
            read_byte(at.x, taken.w),
        );
        arena[at.out + unit] = packed(found);
    } else {
        let found = vec4<f32>(
            read_float(at.x, taken.x),
            read_float(at.x, taken.y),
            read_float(at.x, taken.z),
            read_float(at.x, taken.w),
        );
        write_floats(at.out + i, last, found);
    }
}
