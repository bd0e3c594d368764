// Images at another size, each element taken from one of the input. The kernel's constants are the input rows of all output rows, then
// the input columns of all output columns.

override in_h: u32;
override in_w: u32;
override out_h: u32;
override out_w: u32;
override channels: u32;
override elements: u32;
override bytes: bool;

fn source(index: u32) -> u32 {
    let within = min(index, elements - 1u);
    let pixel = within / channels;
    let line = pixel / out_w;
    let y = constant_word(line % out_h);
    let x = constant_word(out_h + pixel % out_w);
    return ((line / out_h * in_h + y) * in_w + x) * channels + within % channels;
}

fn byte(index: u32) -> u32 {
    return read_byte(at.x, source(index));
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
        arena[at.out + unit] = packed(vec4<u32>(byte(i), byte(i + 1u), byte(i + 2u), byte(i + 3u)));
    } else {
        arena[at.out + unit] = arena[at.x + source(unit)];
    }
}
