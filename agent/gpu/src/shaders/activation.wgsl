// Functions of f32, four at a time. The error of those with an exponential is that of the device's `exp`, a few units in the last place.

// Which function: the numbers are those of `Function` in activation.rs.
override activation: u32;
override alpha: f32;
override beta: f32;

fn sigmoid(x: vec4<f32>) -> vec4<f32> {
    return 1.0 / (1.0 + exp(clamp(-x, vec4<f32>(-87.0), vec4<f32>(87.0))));
}

fn tanh_of(x: vec4<f32>) -> vec4<f32> {
    let limited = clamp(x, vec4<f32>(-9.0), vec4<f32>(9.0));
    let square = limited * limited;
    var numerator = vec4<f32>(-2.7607684e-16);
    numerator = numerator * square + 2.000188e-13;
    numerator = numerator * square - 8.604672e-11;
    numerator = numerator * square + 5.1222977e-8;
    numerator = numerator * square + 1.48572235e-5;
    numerator = numerator * square + 6.3726195e-4;
    numerator = numerator * square + 4.8935246e-3;
    var denominator = vec4<f32>(1.1982584e-6);
    denominator = denominator * square + 1.1853471e-4;
    denominator = denominator * square + 2.2684347e-3;
    denominator = denominator * square + 4.893525e-3;
    return limited * numerator / denominator;
}

fn erf(x: vec4<f32>) -> vec4<f32> {
    let size = abs(x);
    let square = x * x;
    var small = vec4<f32>(-5.967617e-4);
    small = small * square + 4.9911942e-3;
    small = small * square - 2.6768135e-2;
    small = small * square + 1.12819925e-1;
    small = small * square - 3.7612534e-1;
    small = small * square + 1.2837917e-1;
    small = small * x + x;
    let limited = min(size, vec4<f32>(4.0));
    var large = vec4<f32>(-1.7285347e-5);
    large = large * limited + 3.8319713e-4;
    large = large * limited - 3.8839644e-3;
    large = large * limited + 2.4254622e-2;
    large = large * limited - 1.0677788e-1;
    large = large * limited - 6.348467e-1;
    large = large * limited - 1.2871751e-1;
    large = 1.0 - exp(large * limited - limited);
    return select(small, select(large, -large, x < vec4<f32>(0.0)), size > vec4<f32>(0.9277344));
}

// e^x - 1, by the tangent where the difference would cancel.
fn expm1_of(x: vec4<f32>) -> vec4<f32> {
    let half = tanh_of(0.5 * x);
    return select(exp(x) - 1.0, 2.0 * half / (1.0 - half), abs(x) < vec4<f32>(1.0));
}

// ln(1 + e^-|x|) + max(x, 0), by a series where the logarithm would lose digits.
fn softplus(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    return max(x, vec4<f32>(0.0)) + select(log(1.0 + e), e * (1.0 - e * (0.5 - e / 3.0)), e < vec4<f32>(0.001));
}

fn activate(x: vec4<f32>) -> vec4<f32> {
    switch activation {
        case 1u: { return min(max(x, vec4<f32>(alpha)), vec4<f32>(beta)); }
        case 2u: { return select(alpha * x, x, x >= vec4<f32>(0.0)); }
        case 3u: { return sigmoid(x); }
        case 4u: { return tanh_of(x); }
        case 5u: { return clamp(alpha * x + beta, vec4<f32>(0.0), vec4<f32>(1.0)); }
        case 6u: { return x * clamp(x * (1.0 / 6.0) + 0.5, vec4<f32>(0.0), vec4<f32>(1.0)); }
        case 7u: { return x * sigmoid(x); }
        case 8u: { return 0.5 * x * (1.0 + erf(x * 0.70710678)); }
        case 9u: { return 0.5 * x * (1.0 + tanh_of(0.7978846 * (x + 0.044715 * x * x * x))); }
        case 10u: { return erf(x); }
        case 11u: { return exp(x); }
        case 12u: { return log(x); }
        case 13u: { return sqrt(x); }
        case 14u: { return 1.0 / x; }
        case 15u: { return -x; }
        case 16u: { return abs(x); }
        case 17u: { return floor(x); }
        case 18u: { return ceil(x); }
        case 19u: { return round(x); }
        case 20u: { return select(alpha * expm1_of(x), x, x >= vec4<f32>(0.0)); }
        case 21u: { return softplus(x); }
        default: { return x; }
    }
}
