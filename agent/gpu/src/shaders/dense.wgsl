// Convolution of f32, dense or in groups of whole blocks: each invocation makes four or eight channels of four or eight pixels.

// Whether it is eight pixels, and eight channels.
override deep: bool;
override wide: bool;
// Invocations side by side: those for all channels of a pixel.
override columns: u32;
// Input channels of a group, and vectors of four output channels.
override group_channels: u32;
override group_blocks: u32;

fn values(line: vec4<u32>, inside: vec4<bool>) -> vec4<f32> {
    let words = vec4<u32>(arena[line.x], arena[line.y], arena[line.z], arena[line.w]);
    return bitcast<vec4<f32>>(select(vec4<u32>(0u), words, inside));
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
    let start = at.x + block / group_blocks * group_channels;
    var weights = at.constants + block;
    var upper_left: Sums;
    var upper_right: Sums;
    var lower_left: Sums;
    var lower_right: Sums;
    for (var ky = 0u; ky < kernel_h; ky++) {
        for (var kx = 0u; kx < kernel_w; kx++) {
            let upper_tap = taps(upper, ky, kx);
            let lower_tap = taps(lower, ky, kx);
            let upper_line = vec4<u32>(start) + upper_tap.pixel * in_channels;
            let lower_line = vec4<u32>(start) + lower_tap.pixel * in_channels;
            for (var k = 0u; k < group_channels; k++) {
                let left = bitcast<vec4<f32>>(constants[weights]);
                let x = values(upper_line + k, upper_tap.inside);
                add(&upper_left, x, left);
                var right = vec4<f32>(0.0);
                if wide {
                    right = bitcast<vec4<f32>>(constants[weights + 1u]);
                    add(&upper_right, x, right);
                }
                if deep {
                    let y = values(lower_line + k, lower_tap.inside);
                    add(&lower_left, y, left);
                    if wide {
                        add(&lower_right, y, right);
                    }
                }
                weights += columns * blocks;
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
