// The greatest or the mean within windows, channels last: f32, or the greatest of bytes.

override in_h: u32;
override in_w: u32;
override out_h: u32;
override out_w: u32;
override kernel_h: u32;
override kernel_w: u32;
override stride_h: u32;
override stride_w: u32;
override dilation_h: u32;
override dilation_w: u32;
override pad_top: u32;
override pad_left: u32;
// Whether a mean counts the padding, and where that ends, from its beginning on.
override count_padding: bool;
override counted_h: u32;
override counted_w: u32;
override channels: u32;
override elements: u32;
override mean: bool;
override bytes: bool;

fn pooled(element: u32) -> f32 {
    let channel = element % channels;
    let pixel = element / channels;
    let line = pixel / out_w;
    let image = line / out_h;
    let top = line % out_h * stride_h;
    let left = pixel % out_w * stride_w;
    var greatest = select(-3.4028234e38, 0.0, bytes);
    var sum = 0.0;
    var count = 0u;
    for (var ky = 0u; ky < kernel_h; ky++) {
        let y = top + ky * dilation_h;
        for (var kx = 0u; kx < kernel_w; kx++) {
            let x = left + kx * dilation_w;
            // What lies before the image wraps around to beyond it.
            let inside = y - pad_top < in_h && x - pad_left < in_w;
            if inside {
                let index = ((image * in_h + y - pad_top) * in_w + x - pad_left) * channels + channel;
                var value = 0.0;
                if bytes {
                    value = f32(read_byte(at.x, index));
                } else {
                    value = read_float(at.x, index);
                }
                greatest = max(greatest, value);
                sum += value;
            }
            if select(inside, y < counted_h && x < counted_w, count_padding) {
                count += 1u;
            }
        }
    }
    if mean {
        return sum / f32(max(count, 1u));
    }
    return greatest;
}

fn greatest_byte(element: u32) -> u32 {
    return u32(pooled(min(element, elements - 1u)));
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
        let found = vec4<u32>(greatest_byte(i), greatest_byte(i + 1u), greatest_byte(i + 2u), greatest_byte(i + 3u));
        arena[at.out + unit] = packed(found);
    } else {
        arena[at.out + unit] = bitcast<u32>(pooled(unit));
    }
}
