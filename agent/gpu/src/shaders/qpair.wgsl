// A sum or product of bytes. Arithmetic decides all but what comes near a tie; there, and where a device's rounding could matter
// otherwise, a table of all 65536 results has the answer.

// A sum, or else a product.
override pair_sum: bool;
override pair_a_zero: f32;
override pair_b_zero: f32;
// What each operand of a sum, or a product, is multiplied with.
override pair_a_ratio: f32;
override pair_b_ratio: f32;
override pair_zero: f32;
override pair_low: f32;
override pair_high: f32;
// How near to a tie arithmetic is not trusted.
override pair_doubt: f32;
// Where the table begins, in words, and whether the second operand's byte is the higher one of its index.
override pair_table: u32;
override pair_second_first: bool;

fn by_table(a: u32, b: u32) -> u32 {
    return constant_byte(pair_table, select(a * 256u + b, b * 256u + a, pair_second_first));
}

fn paired(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let x = vec4<f32>(a) - pair_a_zero;
    let y = vec4<f32>(b) - pair_b_zero;
    var steps = x * y * pair_a_ratio;
    if pair_sum {
        steps = x * pair_a_ratio + y * pair_b_ratio;
    }
    steps = clamp(steps + pair_zero, vec4<f32>(pair_low), vec4<f32>(pair_high));
    let nearest = round(steps);
    var bytes = vec4<u32>(nearest);
    let doubtful = abs(steps - nearest) > vec4<f32>(0.5 - pair_doubt);
    if any(doubtful) {
        let known = vec4<u32>(by_table(a.x, b.x), by_table(a.y, b.y), by_table(a.z, b.z), by_table(a.w, b.w));
        bytes = select(bytes, known, doubtful);
    }
    return bytes;
}
