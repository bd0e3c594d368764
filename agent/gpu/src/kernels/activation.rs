//! Functions of one f32, as numbers that shaders know.

use super::overrides;
use whimbrel_infer::plan::{Activation, Unary};

overrides! {
    /// A function and its parameters.
    Activated;
    /// Its number in `activation.wgsl`.
    activation: u32,
    /// Its first parameter.
    alpha: f32,
    /// Its second parameter.
    beta: f32,
}

impl From<Activation> for Activated {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::None => Self { activation: 0, alpha: 0.0, beta: 0.0 },
            Activation::Clip { min, max } => Unary::Clip { min, max }.into(),
            Activation::Function(function) => function.into(),
        }
    }
}

impl From<Unary> for Activated {
    fn from(unary: Unary) -> Self {
        let (activation, alpha, beta) = match unary {
            // Overrides are finite; so is what a clip lets through that has no bound.
            Unary::Clip { min, max } => (1, min.max(f32::MIN), max.min(f32::MAX)),
            Unary::LeakyRelu { alpha } => (2, alpha, 0.0),
            Unary::Sigmoid => (3, 0.0, 0.0),
            Unary::Tanh => (4, 0.0, 0.0),
            Unary::HardSigmoid { alpha, beta } => (5, alpha, beta),
            Unary::HardSwish => (6, 0.0, 0.0),
            Unary::Silu => (7, 0.0, 0.0),
            Unary::Gelu => (8, 0.0, 0.0),
            Unary::GeluTanh => (9, 0.0, 0.0),
            Unary::Erf => (10, 0.0, 0.0),
            Unary::Exp => (11, 0.0, 0.0),
            Unary::Log => (12, 0.0, 0.0),
            Unary::Sqrt => (13, 0.0, 0.0),
            Unary::Reciprocal => (14, 0.0, 0.0),
            Unary::Neg => (15, 0.0, 0.0),
            Unary::Abs => (16, 0.0, 0.0),
            Unary::Floor => (17, 0.0, 0.0),
            Unary::Ceil => (18, 0.0, 0.0),
            Unary::Round => (19, 0.0, 0.0),
            Unary::Elu { alpha } => (20, alpha, 0.0),
            Unary::Softplus => (21, 0.0, 0.0),
        };
        Self { activation, alpha, beta }
    }
}

impl Activated {
    /// Whether its parameters can be constants of a shader, which must be finite.
    pub(crate) fn is_usable(self) -> bool {
        self.alpha.is_finite() && self.beta.is_finite()
    }
}
