// Convolution of f32 in groups of any size, depthwise ones among them: each invocation makes one channel of four pixels.

override in_channels: u32;
override group_channels: u32;
override out_channels: u32;
// Output channels of a group.
override group_outputs: u32;
// In words.
override bias_at: u32;
override residual: bool;

// A channel of four pixels, or what there is of them.
fn store(first: u32, channel: u32, sums: vec4<f32>) {
    let last = pixels - first - 1u;
    let pixel = vec4<u32>(first) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
    let places = pixel * out_channels + channel;
    var results = sums + bitcast<f32>(constant_word(bias_at + channel));
    if residual {
        results += bitcast<vec4<f32>>(vec4<u32>(
            arena[at.y + places.x],
            arena[at.y + places.y],
            arena[at.y + places.z],
            arena[at.y + places.w],
        ));
    }
    let words = bitcast<vec4<u32>>(activate(results));
    arena[at.out + places.x] = words.x;
    if last > 0u {
        arena[at.out + places.y] = words.y;
    }
    if last > 1u {
        arena[at.out + places.z] = words.z;
    }
    if last > 2u {
        arena[at.out + places.w] = words.w;
    }
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
    let channel = unit % out_channels;
    let first = unit / out_channels * 4u;
    let windows = corners(first);
    let start = at.x + channel / group_outputs * group_channels;
    var weight = channel;
    var sums = vec4<f32>(0.0);
    for (var ky = 0u; ky < kernel_h; ky++) {
        for (var kx = 0u; kx < kernel_w; kx++) {
            let tap = taps(windows, ky, kx);
            let line = vec4<u32>(start) + tap.pixel * in_channels;
            for (var k = 0u; k < group_channels; k++) {
                let words = vec4<u32>(
                    arena[line.x + k],
                    arena[line.y + k],
                    arena[line.z + k],
                    arena[line.w + k],
                );
                let x = bitcast<vec4<f32>>(select(vec4<u32>(0u), words, tap.inside));
                sums += x * bitcast<f32>(constant_word(weight));
                weight += out_channels;
            }
        }
    }
    store(first, channel, sums);
}
