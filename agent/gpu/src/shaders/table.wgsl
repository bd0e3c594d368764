// Any function of one byte, by a table of all 256 results.

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let unit = unit_of(group, groups, local);
    if unit < units {
        let bytes = unpacked(arena[at.x + unit]);
        let results = vec4<u32>(
            constant_byte(0u, bytes.x),
            constant_byte(0u, bytes.y),
            constant_byte(0u, bytes.z),
            constant_byte(0u, bytes.w),
        );
        arena[at.out + unit] = packed(results);
    }
}
