// Division of f32 as it should be: devices divide less exactly than that.

// The bits of two positive numbers to their quotient, rounded half to even. Where that is no normal number, and where `a` is none, it
// is 0.
fn divided(a: u32, b: u32) -> f32 {
    var rest = (a & 0x7fffffu) | 0x800000u;
    let divisor = (b & 0x7fffffu) | 0x800000u;
    var exponent = i32(a >> 23u) - i32(b >> 23u) + 127;
    if rest < divisor {
        rest <<= 1u;
        exponent -= 1;
    }
    // 24 bits, and one more to round by.
    var quotient = 0u;
    for (var bit = 0u; bit < 25u; bit++) {
        quotient <<= 1u;
        if rest >= divisor {
            rest -= divisor;
            quotient |= 1u;
        }
        rest <<= 1u;
    }
    if a < 0x800000u || exponent < 1 {
        return 0.0;
    }
    let up = (quotient & 1u) != 0u && (rest != 0u || (quotient & 2u) != 0u);
    let rounded = (quotient >> 1u) + select(0u, 1u, up);
    // A carry out of the mantissa moves the exponent on.
    return bitcast<f32>((u32(exponent) << 23u) + (rounded - 0x800000u));
}
