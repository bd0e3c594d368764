// Sums of products of bytes.

// Words of an input pixel.
override in_words: u32;
// The input's zero point in every byte, which padding stands for.
override zero_word: u32;
// Summands of a weight: those beyond int8 are a sum of several.
override parts: u32;

// Four channels of four pixels.
struct Sums {
    a: vec4<i32>,
    b: vec4<i32>,
    c: vec4<i32>,
    d: vec4<i32>,
}

fn dots(x: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(
        dot4I8Packed(x, w.x),
        dot4I8Packed(x, w.y),
        dot4I8Packed(x, w.z),
        dot4I8Packed(x, w.w),
    );
}

fn add(sums: ptr<function, Sums>, x: vec4<u32>, w: vec4<u32>) {
    (*sums).a += dots(x.x, w);
    (*sums).b += dots(x.y, w);
    (*sums).c += dots(x.z, w);
    (*sums).d += dots(x.w, w);
}

fn store(first: u32, block: u32, sums: Sums) {
    store_pixel(first, block, sums.a);
    store_pixel(first + 1u, block, sums.b);
    store_pixel(first + 2u, block, sums.c);
    store_pixel(first + 3u, block, sums.d);
}
