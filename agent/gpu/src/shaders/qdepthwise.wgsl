// Convolution of bytes, each channel on its own: each invocation makes four channels of four pixels of a row, past which the input
// slides where windows move on by one pixel.

override input_zero: i32;
// Summands of a weight: those beyond int8 are a sum of several.
override parts: u32;
// Fours of pixels of a row, the last one incomplete.
override tiles: u32;
override slides: bool;

// The pixel `x` of a line of the input, less the zero point.
fn values(line: u32, block: u32, x: u32, inside: bool) -> vec4<i32> {
    let there = inside && x < in_w;
    let index = select(0u, (line + x) * out_blocks + block, there);
    return select(vec4<i32>(0), vec4<i32>(unpacked(arena[at.x + index])) - input_zero, there);
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
    let block = unit % out_blocks;
    let first = unit / out_blocks % tiles * 4u;
    let line = unit / out_blocks / tiles;
    // What lies before the image wraps around to beyond it.
    let top = line % out_h * stride_h - pad_top;
    let left = first * stride_w - pad_left;
    var weights = block;
    var a = vec4<i32>(0);
    var b = vec4<i32>(0);
    var c = vec4<i32>(0);
    var d = vec4<i32>(0);
    for (var ky = 0u; ky < kernel_h; ky++) {
        let y = top + ky * dilation_h;
        let inside = y < in_h;
        let row = (line / out_h * in_h + y) * in_w;
        var p = vec4<i32>(0);
        var q = vec4<i32>(0);
        var r = vec4<i32>(0);
        if slides {
            p = values(row, block, left, inside);
            q = values(row, block, left + 1u, inside);
            r = values(row, block, left + 2u, inside);
        }
        for (var kx = 0u; kx < kernel_w; kx++) {
            var w = vec4<i32>(0);
            for (var part = 0u; part < parts; part++) {
                w += unpack4xI8(constant_word(weights));
                weights += out_blocks;
            }
            let x = left + kx * dilation_w;
            if !slides {
                p = values(row, block, x, inside);
                q = values(row, block, x + stride_w, inside);
                r = values(row, block, x + 2u * stride_w, inside);
            }
            let s = values(row, block, x + 3u * stride_w, inside);
            a += p * w;
            b += q * w;
            c += r * w;
            d += s * w;
            if slides {
                p = q;
                q = r;
                r = s;
            }
        }
    }
    let pixel = line * out_w + first;
    store_pixel(pixel, block, a);
    if first + 1u < out_w {
        store_pixel(pixel + 1u, block, b);
    }
    if first + 2u < out_w {
        store_pixel(pixel + 2u, block, c);
    }
    if first + 3u < out_w {
        store_pixel(pixel + 3u, block, d);
    }
}
