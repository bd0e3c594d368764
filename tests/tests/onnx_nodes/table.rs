//! `docs/operators.md`: which operators run, by the cases of each that pass.

use crate::{cases::Case, list::section, verdict::Verdict};
use std::{collections::BTreeMap, fmt::Write as _};

const HEAD: &str = "\
# Operators

What runs of ONNX's operators, by the node cases of ONNX's own backend test. Written by `tests/tests/onnx_nodes`, which fails when it
is out of date; the cases that do not pass are in `tests/data/onnx_nodes_unsupported.txt`, each with its reason.
";

/// What came of one operator's cases.
#[derive(Default)]
struct Row {
    cases: usize,
    passing: usize,
    reasons: BTreeMap<String, usize>,
}

/// The whole document.
pub(crate) fn format(verdicts: &[(Case, Verdict)]) -> String {
    let mut text = HEAD.to_owned();
    let passing = verdicts.iter().filter(|(_, verdict)| passes(verdict)).count();
    let _ = writeln!(text, "\nOf all {} cases, {passing} are answered as they should be.", verdicts.len());

    let rows = rows(verdicts);
    let whole: Vec<String> = rows
        .iter()
        .filter(|(_, row)| row.passing == row.cases)
        .map(|(operator, row)| format!("{operator} ({})", row.cases))
        .collect();
    let _ = write!(text, "\n## Every case passes\n\n{}.\n", whole.join(", "));
    section_of(&mut text, "Some cases pass", &rows, |row| row.passing > 0 && row.passing < row.cases);
    section_of(&mut text, "No case passes", &rows, |row| row.passing == 0);
    text
}

fn section_of(text: &mut String, title: &str, rows: &BTreeMap<&str, Row>, belongs: impl Fn(&Row) -> bool) {
    let _ = write!(
        text,
        "\n## {title}\n\n| operator | cases | passing | what the others need |\n|---|---|---|---|\n"
    );
    for (operator, row) in rows.iter().filter(|(_, row)| belongs(row)) {
        let reasons: Vec<String> = row
            .reasons
            .iter()
            .map(|(reason, count)| if *count > 1 { format!("{reason} ({count})") } else { reason.clone() })
            .collect();
        let _ = writeln!(text, "| {operator} | {} | {} | {} |", row.cases, row.passing, reasons.join(", "));
    }
}

/// Cases that spell an operator out in others say nothing about it, so they have no part in this.
fn rows(verdicts: &[(Case, Verdict)]) -> BTreeMap<&str, Row> {
    let mut rows = BTreeMap::<&str, Row>::new();
    for (case, verdict) in verdicts.iter().filter(|(case, _)| !case.expanded) {
        let row = rows.entry(&case.operator).or_default();
        row.cases += 1;
        row.passing += usize::from(passes(verdict));
        if !passes(verdict) {
            *row.reasons.entry(reason(verdict)).or_default() += 1;
        }
    }
    rows
}

fn passes(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Passes | Verdict::Mistaken(_))
}

fn reason(verdict: &Verdict) -> String {
    match (verdict, section(verdict)) {
        (Verdict::Unsupported(why), _) => why.clone(),
        (Verdict::Wrong(_), _) => "**answers wrongly**".to_owned(),
        (_, Some((section, _))) => section.to_owned(),
        (_, None) => "panics".to_owned(),
    }
}
