//! The error bounds that [`super::super::math`] states, against f64.

use crate::pointwise::math::{erf, exp, exp_normal, sigmoid, sigmoid_rational, tanh};

/// The error function by its power series, exact enough up to 4.
fn exact_erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

/// The distance of `result` from `exact` in ulps of the latter.
fn ulps(result: f32, exact: f64) -> f64 {
    let size = (exact as f32).abs().max(f32::MIN_POSITIVE);
    let ulp = f64::from(f32::from_bits(size.to_bits() + 1) - size);
    (f64::from(result) - exact).abs() / ulp
}

/// The greatest error over `range`, in steps that hit no pattern.
fn greatest(range: [f32; 2], f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
    let steps = 200_003;
    let of = |step: i32| {
        let x = range[0] + (range[1] - range[0]) * step as f32 / steps as f32;
        ulps(f(x), exact(f64::from(x)))
    };
    (0..=steps).map(of).fold(0.0, f64::max)
}

fn check<const FMA: bool>() {
    let of = |name: &str, bound: f64, error: f64| assert!(error <= bound, "{name}: {error} ulp");
    of("exp", 2.0, greatest([-87.0, 88.7], exp::<FMA>, f64::exp));
    of("exp of small", 2.0, greatest([-0.01, 0.01], exp::<FMA>, f64::exp));
    of("exp of normal", 2.0, greatest([-87.0, 88.0], exp_normal::<FMA>, f64::exp));
    of("sigmoid", 4.0, greatest([-86.0, 40.0], sigmoid::<FMA>, |x| 1.0 / (1.0 + (-x).exp())));
    of("tanh", 8.0, greatest([-10.0, 10.0], tanh::<FMA>, f64::tanh));
    of("tanh of small", 8.0, greatest([-0.01, 0.01], tanh::<FMA>, f64::tanh));
    of("erf", 3.0, greatest([-3.9, 3.9], erf::<FMA>, exact_erf));
    for step in -4000..4000 {
        let x = step as f32 * 0.007;
        let exact = 1.0 / (1.0 + f64::from(-x).exp());
        assert!((f64::from(sigmoid_rational::<FMA>(x)) - exact).abs() < 2e-7, "{x}");
    }
}

#[test]
fn errors_stay_within_the_bounds() {
    check::<true>();
    check::<false>();
}

#[test]
fn extremes_have_their_limits() {
    for [at_least, at_most, nan] in [
        [exp::<true>(-200.0), exp::<true>(200.0), exp::<true>(f32::NAN)],
        [exp_normal::<true>(f32::NEG_INFINITY), f32::INFINITY, exp_normal::<true>(f32::NAN)],
    ] {
        assert_eq!((at_least, at_most, nan.is_nan()), (0.0, f32::INFINITY, true));
    }
    assert!((exp::<true>(-100.0) - 3.783_5e-44).abs() < 2e-45);
    assert_eq!([f32::NEG_INFINITY, f32::INFINITY].map(tanh::<true>), [-1.0, 1.0]);
    assert_eq!([f32::NEG_INFINITY, f32::INFINITY].map(erf::<true>), [-1.0, 1.0]);
    assert_eq!(sigmoid::<true>(f32::INFINITY), 1.0);
    assert!(sigmoid::<true>(f32::NEG_INFINITY) < 2e-38);
    assert!(
        tanh::<true>(f32::NAN).is_nan()
            && erf::<true>(f32::NAN).is_nan()
            && sigmoid::<true>(f32::NAN).is_nan()
    );
}
