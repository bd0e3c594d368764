// Bytes to f32.

override scale: f32;
override zero: i32;

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let unit = unit_of(group, groups, local);
    if unit < units {
        let steps = i32(read_byte(at.x, source(unit))) - zero;
        arena[at.out + unit] = bitcast<u32>(f32(steps) * scale);
    }
}
