// Any function of two bytes that broadcast, by a table of all 65536 results.

// Where the table begins, in words.
override table_at: u32;
override elements: u32;
// Whether the operands meet byte by byte, so that whole words are read.
override same: bool;
// Whether the second operand's byte is the higher one of the table's index.
override second_first: bool;

fn result(a: u32, b: u32) -> u32 {
    if second_first {
        return constant_byte(table_at, b * 256u + a);
    }
    return constant_byte(table_at, a * 256u + b);
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
    if same {
        let a = unpacked(arena[at.x + unit]);
        let b = unpacked(arena[at.y + unit]);
        let bytes = vec4<u32>(result(a.x, b.x), result(a.y, b.y), result(a.z, b.z), result(a.w, b.w));
        arena[at.out + unit] = packed(bytes);
    } else {
        let places = meeting(min(vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(elements - 1u)));
        let bytes = vec4<u32>(
            result(read_byte(at.x, places.x.x), read_byte(at.y, places.y.x)),
            result(read_byte(at.x, places.x.y), read_byte(at.y, places.y.y)),
            result(read_byte(at.x, places.x.z), read_byte(at.y, places.y.z)),
            result(read_byte(at.x, places.x.w), read_byte(at.y, places.y.w)),
        );
        arena[at.out + unit] = packed(bytes);
    }
}
