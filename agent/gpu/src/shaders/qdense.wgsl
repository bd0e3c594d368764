// Convolution of bytes, dense or in groups: each invocation makes four or eight channels of four or eight pixels. The channels of a group
// lie in whole words, on both sides.

// Whether it is eight pixels, and eight channels.
override deep: bool;
override wide: bool;
// Invocations side by side: those for all channels of a pixel.
override columns: u32;
// Words of a group's channels in an input pixel, and vectors of four output channels of a group.
override group_words: u32;
override group_blocks: u32;

// Unsigned bytes less 128 are int8.
fn values(line: vec4<u32>, inside: vec4<bool>) -> vec4<u32> {
    let words = vec4<u32>(arena[line.x], arena[line.y], arena[line.z], arena[line.w]);
    return select(vec4<u32>(zero_word), words, inside) ^ vec4<u32>(0x80808080u);
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
    let blocks = select(1u, 2u, wide);
    let block = unit % columns * blocks;
    let first = unit / columns * select(4u, 8u, deep);
    let upper = corners(first);
    let lower = corners(first + 4u);
    let start = at.x + block / group_blocks * group_words;
    var weights = at.constants + block;
    var upper_left: Sums;
    var upper_right: Sums;
    var lower_left: Sums;
    var lower_right: Sums;
    for (var ky = 0u; ky < kernel_h; ky++) {
        for (var kx = 0u; kx < kernel_w; kx++) {
            let upper_tap = taps(upper, ky, kx);
            let lower_tap = taps(lower, ky, kx);
            let upper_line = vec4<u32>(start) + upper_tap.pixel * in_words;
            let lower_line = vec4<u32>(start) + lower_tap.pixel * in_words;
            for (var k = 0u; k < group_words; k++) {
                let x = values(upper_line + k, upper_tap.inside);
                var y = vec4<u32>(0u);
                if deep {
                    y = values(lower_line + k, lower_tap.inside);
                }
                for (var part = 0u; part < parts; part++) {
                    let left = constants[weights];
                    add(&upper_left, x, left);
                    if deep {
                        add(&lower_left, y, left);
                    }
                    if wide {
                        let right = constants[weights + 1u];
                        add(&upper_right, x, right);
                        if deep {
                            add(&lower_right, y, right);
                        }
                    }
                    weights += columns * blocks;
                }
            }
        }
    }
    store(first, block, upper_left);
    if wide {
        store(first, block + 1u, upper_right);
    }
    if deep {
        store(first + 4u, block, lower_left);
        if wide {
            store(first + 4u, block + 1u, lower_right);
        }
    }
}
