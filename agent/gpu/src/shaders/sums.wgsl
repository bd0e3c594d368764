// Sums of f32, and what becomes of them.

// Channels of an input pixel, and of an output pixel.
override in_channels: u32;
override out_channels: u32;
override bias_at: u32;
override residual: bool;

// Four channels of four pixels.
struct Sums {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn add(sums: ptr<function, Sums>, x: vec4<f32>, w: vec4<f32>) {
    (*sums).a += x.x * w;
    (*sums).b += x.y * w;
    (*sums).c += x.z * w;
    (*sums).d += x.w * w;
}

// Four channels of a pixel, or what there is of them.
fn store_pixel(pixel: u32, block: u32, sums: vec4<f32>) {
    let channel = block * 4u;
    if pixel >= pixels || channel >= out_channels {
        return;
    }
    let start = pixel * out_channels + channel;
    let last = out_channels - channel - 1u;
    let places = vec4<u32>(start) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
    var results = sums + bitcast<vec4<f32>>(constants[at.constants + bias_at + block]);
    if residual {
        results += bitcast<vec4<f32>>(vec4<u32>(
            arena[at.y + places.x],
            arena[at.y + places.y],
            arena[at.y + places.z],
            arena[at.y + places.w],
        ));
    }
    write_floats(at.out + start, last, activate(results));
}

fn store(first: u32, block: u32, sums: Sums) {
    store_pixel(first, block, sums.a);
    store_pixel(first + 1u, block, sums.b);
    store_pixel(first + 2u, block, sums.c);
    store_pixel(first + 3u, block, sums.d);
}
