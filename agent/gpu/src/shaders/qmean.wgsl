// The mean of each channel of whole images of bytes.

override image_pixels: u32;
override channels: u32;
override elements: u32;
override input_zero: i32;
override factor: f32;
override zero: i32;
override low: f32;
override high: f32;

fn mean(element: u32) -> u32 {
    let within = min(element, elements - 1u);
    let start = within / channels * image_pixels * channels + within % channels;
    var sum = -input_zero * i32(image_pixels);
    for (var pixel = 0u; pixel < image_pixels; pixel++) {
        sum += i32(read_byte(at.x, start + pixel * channels));
    }
    return u32(i32(round(clamp(f32(sum) * factor, low, high))) + zero);
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
