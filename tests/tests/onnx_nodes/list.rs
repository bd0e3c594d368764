//! The committed list of cases that do not pass, `tests/data/onnx_nodes_unsupported.txt`.
//!
//! A section begins with `[its name]`; each line under it is a case, a dash and the reason. Only case and section are
//! compared: reasons are for people, and some are another project's words.

use crate::{cases::Case, verdict::Verdict};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

const DASH: &str = " — ";

/// Sections, in the order of the file, and what each says about itself.
const SECTIONS: [(&str, &str); 4] = [
    ("unsupported", "Answered by an error that says what is not supported."),
    ("refused", "Answered by another error, which is to become one that says what is not supported."),
    ("wrong", "Wrong answers. Each is a bug."),
    ("mistaken", "The case expects a wrong answer, and is given the right one."),
];

/// The section a case belongs to, by its name.
pub(crate) type Listed = BTreeMap<String, String>;

/// Which section a verdict puts a case in, and why; none where it passes or where no section excuses it.
pub(crate) fn section(verdict: &Verdict) -> Option<(&'static str, &str)> {
    match verdict {
        Verdict::Passes | Verdict::Panicked => None,
        Verdict::Unsupported(why) => Some(("unsupported", why)),
        Verdict::Refused(why) => Some(("refused", why)),
        Verdict::Wrong(why) => Some(("wrong", why)),
        Verdict::Mistaken(why) => Some(("mistaken", why)),
    }
}

/// Reads the list.
pub(crate) fn parse(text: &str) -> Listed {
    let mut listed = Listed::new();
    let mut section = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let (case, _reason) = line.split_once(DASH).expect("a case, a dash and a reason");
        listed.insert(case.to_owned(), section.to_owned());
    }
    listed
}

/// Writes the list of these verdicts.
pub(crate) fn format(verdicts: &[(Case, Verdict)]) -> String {
    let mut text = "# Node cases of ONNX's backend test that do not pass. Checked and written by tests/tests/onnx_nodes.\n"
        .to_owned();
    for (name, about) in SECTIONS {
        let in_section = |(case, verdict): &'_ (Case, Verdict)| -> Option<(String, String)> {
            let (section, why) = section(verdict)?;
            (section == name).then(|| (case.name.clone(), why.to_owned()))
        };
        let lines: Vec<_> = verdicts.iter().filter_map(in_section).collect();
        if lines.is_empty() {
            continue;
        }
        let _ = write!(text, "\n[{name}]\n# {about}\n");
        for (case, why) in lines {
            let _ = writeln!(text, "{case}{DASH}{why}");
        }
    }
    text
}

/// What the list says that is not so, or does not say that is.
pub(crate) fn problems<'a>(
    listed: &Listed,
    verdicts: impl IntoIterator<Item = (&'a str, &'a Verdict)>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for (name, verdict) in verdicts {
        known.insert(name);
        match (section(verdict), listed.get(name)) {
            _ if *verdict == Verdict::Panicked => problems.push(format!("{name}: panicked")),
            (None, Some(_)) => problems.push(format!("{name}: passes: remove it from the list")),
            (Some((is, why)), Some(have)) if is != have => {
                problems.push(format!("{name}: listed as {have}, but {is}: {why}"));
            }
            (Some((is, why)), None) => problems.push(format!("{name}: {is}: {why}")),
            _ => {}
        }
    }
    let unknown = listed.keys().filter(|name| !known.contains(name.as_str()));
    problems.extend(unknown.map(|name| format!("{name}: no such case: remove it from the list")));
    problems
}

#[test]
fn a_list_must_say_what_is_so() {
    let listed = parse("# about\n\n[unsupported]\na — operator X\nb — operator X\n\n[wrong]\nc — 1 of 2\n");
    let verdict = |section, why: &str| match section {
        "unsupported" => Verdict::Unsupported(why.to_owned()),
        "wrong" => Verdict::Wrong(why.to_owned()),
        _ => Verdict::Passes,
    };
    let (x, off) = (verdict("unsupported", "operator Y"), verdict("wrong", "2 of 2"));
    let so = [("a", &x), ("b", &x), ("c", &off), ("d", &Verdict::Passes)];
    assert_eq!(problems(&listed, so), [""; 0]);
    for (name, changed, says) in [
        ("a", &Verdict::Passes, "a: passes: remove it from the list"),
        ("a", &Verdict::Panicked, "a: panicked"),
        ("b", &off, "b: listed as unsupported, but wrong: 2 of 2"),
        ("d", &x, "d: unsupported: operator Y"),
    ] {
        let verdicts = so.map(|(other, verdict)| (other, if other == name { changed } else { verdict }));
        assert_eq!(problems(&listed, verdicts), [says]);
    }
    assert_eq!(problems(&listed, so[1..].to_vec()), ["a: no such case: remove it from the list"]);
}
