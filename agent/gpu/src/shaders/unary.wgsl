// A function of each f32: four for each invocation.

override elements: u32;

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
    let place = vec4<u32>(i) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
    let x = vec4<f32>(
        read_float(at.x, place.x),
        read_float(at.x, place.y),
        read_float(at.x, place.z),
        read_float(at.x, place.w),
    );
    write_floats(at.out + i, last, activate(x));
}
