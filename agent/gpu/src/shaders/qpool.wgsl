// The mean within windows of bytes. The kernel's constants are the numbers that the bytes stand for. They are summed in order, and divided
// as `divide.wgsl` does, so that the result is the same on any device.

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
// Whether the padding counts, and even what a window has beyond it.
override count_padding: bool;
override channels: u32;
override elements: u32;
override scale: f32;
// The zero point as the model has it, the results between which it is limited, and what is added to them in the end.
override zero: f32;
override low: f32;
override high: f32;
override shift: i32;

fn quotient(a: f32, b: f32) -> f32 {
    let size = divided(bitcast<u32>(abs(a)), bitcast<u32>(b));
    return select(size, -size, a < 0.0);
}

fn mean(element: u32) -> u32 {
    let within = min(element, elements - 1u);
    let channel = within % channels;
    let pixel = within / channels;
    let line = pixel / out_w;
    let image = line / out_h;
    let top = line % out_h * stride_h;
    let left = pixel % out_w * stride_w;
    var sum = 0.0;
    var count = 0u;
    for (var ky = 0u; ky < kernel_h; ky++) {
        let y = top + ky * dilation_h;
        for (var kx = 0u; kx < kernel_w; kx++) {
            let x = left + kx * dilation_w;
            // What lies before the image wraps around to beyond it.
            if y - pad_top < in_h && x - pad_left < in_w {
                let index = ((image * in_h + y - pad_top) * in_w + x - pad_left) * channels + channel;
                sum += bitcast<f32>(constant_word(read_byte(at.x, index)));
                count += 1u;
            }
        }
    }
    if count_padding {
        count = kernel_h * kernel_w;
    }
    let steps = quotient(quotient(sum, f32(max(count, 1u))), scale) + zero;
    return u32(i32(round(clamp(steps, low, high))) + shift);
}

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let unit = unit_of(group, groups, local);
    if unit < units {
        let i = unit * 4u;
        arena[at.out + unit] = packed(vec4<u32>(mean(i), mean(i + 1u), mean(i + 2u), mean(i + 3u)));
    }
}
