// A sum or product of two byte tensors that broadcast.

override elements: u32;
// Whether the operands meet byte by byte, so that whole words are read.
override same: bool;

// Four bytes at these places.
fn bytes_at(start: u32, places: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(
        read_byte(start, places.x),
        read_byte(start, places.y),
        read_byte(start, places.z),
        read_byte(start, places.w),
    );
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
    if same {
        arena[at.out + unit] = packed(paired(unpacked(arena[at.x + unit]), unpacked(arena[at.y + unit])));
    } else {
        let index = vec4<u32>(unit * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        let places = meeting(min(index, vec4<u32>(elements - 1u)));
        arena[at.out + unit] = packed(paired(bytes_at(at.x, places.x), bytes_at(at.y, places.y)));
    }
}
