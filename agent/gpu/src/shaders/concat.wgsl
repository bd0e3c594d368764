// Tensors one after another within blocks. The kernel's constants have a vector for each: where its part of a block begins, how many
// elements that has, and the word of the arena where the tensor begins.

override inputs: u32;
// Elements of a block.
override whole: u32;
override elements: u32;
override bytes: bool;

fn element(index: u32) -> u32 {
    let within = min(index, elements - 1u);
    let block = within / whole;
    let place = within % whole;
    var entry = constants[at.constants];
    for (var input = 1u; input < inputs; input++) {
        let next = constants[at.constants + input];
        if place >= next.x && next.y > 0u {
            entry = next;
        }
    }
    let taken = block * entry.y + place - entry.x;
    if bytes {
        return read_byte(entry.z, taken);
    }
    return arena[entry.z + taken];
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
