// Convolution of f32, each channel on its own, where windows move on by one pixel: each invocation makes a channel of eight pixels of a
// row, past which the input slides.

override channels: u32;
// Eights of pixels of a row, the last one incomplete.
override tiles: u32;
// In words.
override bias_at: u32;
override residual: bool;

// The pixel `x` of a line of the input.
fn value(line: u32, channel: u32, x: u32, inside: bool) -> f32 {
    let there = inside && x < in_w;
    let index = select(0u, (line + x) * channels + channel, there);
    return select(0.0, read_float(at.x, index), there);
}

// Four pixels from `x` on, or what the row has of them.
fn store(line: u32, x: u32, channel: u32, sums: vec4<f32>) {
    if x >= out_w {
        return;
    }
    let last = out_w - x - 1u;
    let pixel = vec4<u32>(line * out_w + x) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
    let places = pixel * channels + channel;
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
    let channel = unit % channels;
    let first = unit / channels % tiles * 8u;
    let line = unit / channels / tiles;
    // What lies before the image wraps around to beyond it.
    let top = line % out_h * stride_h - pad_top;
    let left = first - pad_left;
    var weight = channel;
    var near = vec4<f32>(0.0);
    var far = vec4<f32>(0.0);
    for (var ky = 0u; ky < kernel_h; ky++) {
        let y = top + ky * dilation_h;
        let inside = y < in_h;
        let row = (line / out_h * in_h + y) * in_w;
        var a = vec4<f32>(
            value(row, channel, left, inside),
            value(row, channel, left + 1u, inside),
            value(row, channel, left + 2u, inside),
            value(row, channel, left + 3u, inside),
        );
        var b = vec4<f32>(
            value(row, channel, left + 4u, inside),
            value(row, channel, left + 5u, inside),
            value(row, channel, left + 6u, inside),
            0.0,
        );
        for (var kx = 0u; kx < kernel_w; kx++) {
            b.w = value(row, channel, left + 7u + kx, inside);
            let w = bitcast<f32>(constant_word(weight));
            weight += channels;
            near += a * w;
            far += b * w;
            a = vec4<f32>(a.yzw, b.x);
            b = vec4<f32>(b.yzw, 0.0);
        }
    }
    store(line, first, channel, near);
    store(line, first + 4u, channel, far);
}
