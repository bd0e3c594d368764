//! What a backend makes of a case.

use crate::{
    cases::{Case, Tensors},
    compare::{ABSOLUTE, difference, is_finite},
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use whimbrel_infer::{Backend, LoadError, LoadOptions, Model, RunError};

/// Reasons are cut here: some hold whole graphs.
const REASON_CHARS_MAX: usize = 160;

/// Cases that are measured more leniently, and what their numbers may be off by: floats that only exact arithmetic makes
/// zero.
const LENIENT: [(&str, f64); 5] = [
    ("test_dft", 1e-3),
    ("test_dft_axis", 1e-4),
    ("test_dft_axis_opset19", 1e-4),
    ("test_dft_opset19", 1e-3),
    ("test_gru_seq_length", 2e-6),
];

/// Cases whose answer is random: its types and shapes are all that can be checked.
const RANDOM: [&str; 2] = ["test_bernoulli", "test_training_dropout"];

/// Cases that expect a wrong answer, which no backend need give.
const MISTAKEN: [(&str, &str); 7] = [
    ("test_adam_multiple", "expects an epsilon of 0.01, which its node leaves at the default of 1e-6"),
    ("test_l2normalization_axis_0", "expects NaN for zeros, which the operator leaves as they are"),
    (
        "test_resize_downsample_scales_linear_align_corners",
        "expects corners of an output whose size is not a whole number",
    ),
    ("test_qlinearmatmul_2D_int8_float16", WRAPS),
    ("test_qlinearmatmul_2D_int8_float32", WRAPS),
    ("test_qlinearmatmul_3D_int8_float16", WRAPS),
    ("test_qlinearmatmul_3D_int8_float32", WRAPS),
];
const WRAPS: &str = "expects a sum that wraps where the operator saturates";

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The expected answer.
    Passes,
    /// An error that says that something is not supported, with what that is.
    Unsupported(String),
    /// Another error, though the model is valid and its inputs are.
    Refused(String),
    /// Another answer.
    Wrong(String),
    /// Another answer than the case expects, and rightly so.
    Mistaken(String),
    /// A panic. No list excuses it.
    Panicked,
}

/// Loads and runs a case.
pub(crate) fn of(case: &Case, backend: &dyn Backend) -> Verdict {
    let verdict = catch_unwind(AssertUnwindSafe(|| load_and_run(case, backend)));
    match verdict.unwrap_or(Verdict::Panicked) {
        Verdict::Wrong(why) => match mistake(case) {
            Some(mistake) => Verdict::Mistaken(mistake.to_owned()),
            None => Verdict::Wrong(short(&why)),
        },
        Verdict::Refused(why) => Verdict::Refused(short(&why)),
        other => other,
    }
}

fn load_and_run(case: &Case, backend: &dyn Backend) -> Verdict {
    let model = match backend.load(&case.model(), &LoadOptions::default()) {
        Ok(model) => model,
        Err(error) => return unloaded(case, &error),
    };
    if let Some(what) = &case.inexpressible {
        return Verdict::Unsupported(what_cannot_be_given(what));
    }
    let verdicts = case.sets().map(|(inputs, outputs)| run(case, &*model, &inputs, &outputs));
    verdicts.into_iter().find(|verdict| *verdict != Verdict::Passes).unwrap_or(Verdict::Passes)
}

fn unloaded(case: &Case, error: &LoadError) -> Verdict {
    match error {
        LoadError::UnsupportedOperator { operator, .. } => {
            Verdict::Unsupported(format!("operator {operator}"))
        }
        LoadError::UnsupportedDatatype { datatype, .. } => {
            let named = case.inexpressible.as_deref().map(what_cannot_be_given);
            Verdict::Unsupported(named.unwrap_or_else(|| format!("data type {datatype}")))
        }
        error if error.is_unsupported() => Verdict::Unsupported(short(&error.to_string())),
        error => Verdict::Refused(error.to_string()),
    }
}

fn what_cannot_be_given(what: &str) -> String {
    let kind = if matches!(what, "sequence" | "optional" | "map") { "values of type" } else { "data type" };
    format!("{kind} {what}")
}

fn run(case: &Case, model: &dyn Model, inputs: &Tensors, expected: &Tensors) -> Verdict {
    let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let found = match model.session().run(&inputs) {
        Ok(found) => found,
        Err(RunError::NonFinite { .. }) if expected.iter().any(|(_, tensor)| !is_finite(tensor)) => {
            return Verdict::Unsupported("an answer that is not finite".to_owned());
        }
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    for (name, tensor) in expected {
        let Some((_, answer)) = found.iter().find(|(found, _)| found == name) else {
            return Verdict::Wrong(format!("output {name} is missing"));
        };
        if is_random(case) && answer.shape() == tensor.shape() && answer.datatype() == tensor.datatype() {
            continue;
        }
        if let Some(difference) = difference(tensor, answer, absolute(case)) {
            return Verdict::Wrong(format!("output {name}: {difference}"));
        }
    }
    Verdict::Passes
}

fn absolute(case: &Case) -> f64 {
    LENIENT.iter().find(|(name, _)| *name == case.name).map_or(ABSOLUTE, |(_, absolute)| *absolute)
}

fn is_random(case: &Case) -> bool {
    RANDOM.iter().any(|prefix| case.name.starts_with(prefix)) && !case.name.contains("zero_ratio")
}

fn mistake(case: &Case) -> Option<&'static str> {
    MISTAKEN.iter().find(|(name, _)| *name == case.name).map(|(_, why)| *why)
}

/// One line of bounded length.
fn short(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
