//! Roles and repositories as text.

use crate::{
    output::table,
    repository::{RoleStatus, RoleView, Status},
};

/// Digits of a key's id that are shown.
const ID_SHOWN: usize = 12;

/// One role after a change.
pub(super) fn role(view: &RoleView) -> String {
    let mut text = format!("{} {} {}\nexpires  {}\n", view.role, view.version, view.file, view.expires);
    for signatures in &view.signatures {
        text += &format!("signed   {} of {} by {}", signatures.valid, signatures.threshold, signatures.by);
        if !signatures.is_met() {
            let missing: Vec<String> =
                signatures.missing.iter().map(|id| id.chars().take(ID_SHOWN).collect()).collect();
            text += &format!("; may still sign: {}", missing.join(", "));
        }
        text.push('\n');
    }
    text += &format!("sha256   {}\n", view.sha256);
    text += &if view.complete {
        "complete".to_owned()
    } else {
        format!("waits for signatures; add one with `whimbrel repo sign {:?}`", view.role)
    };
    text
}

/// Every role, and what to do.
pub(super) fn status(status: &Status) -> String {
    let rows: Vec<Vec<String>> = status.roles.iter().map(row).collect();
    let mut text = table(&["ROLE", "VERSION", "EXPIRES", "SIGNED", "STAGED", "FROM", "NAMES"], &rows);
    for step in &status.next {
        text += &format!("\n- {step}");
    }
    if status.next.is_empty() {
        text += "\nnothing to do";
    }
    text
}

fn row(role: &RoleStatus) -> Vec<String> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let days = role.expires_in_days.map(|days| match days {
        ..=-1 => "expired".to_owned(),
        0 => "today".to_owned(),
        1 => "in 1 day".to_owned(),
        _ => format!("in {days} days"),
    });
    let signed: Vec<String> =
        role.signatures.iter().map(|s| format!("{} of {} by {}", s.valid, s.threshold, s.by)).collect();
    vec![
        role.role.clone(),
        or_none(role.version.map(|v| v.to_string())),
        or_none(days),
        or_none((!signed.is_empty()).then(|| signed.join(", "))),
        or_none(role.staged_version.map(|v| v.to_string())),
        or_none(role.delegated_by.clone()),
        role.scope.join(" "),
    ]
}
