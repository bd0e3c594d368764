//! Links between the project's own documents.

use std::path::Path;

pub(super) fn check(root: &Path, file: &Path, text: &str) -> Vec<String> {
    let folder = root.join(file.parent().unwrap_or(Path::new("")));
    links(text)
        .filter(|link| !link.contains("://") && !link.starts_with('#') && !link.starts_with("mailto:"))
        .filter(|link| !folder.join(link.split('#').next().unwrap_or(link)).exists())
        .map(|link| format!("{}: the link {link} leads nowhere", file.display()))
        .collect()
}

/// The addresses of `[text](address)` outside code blocks.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines()
        .filter(move |line| {
            let fence = line.trim_start().starts_with("```");
            code ^= fence;
            !code && !fence
        })
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')').map(|(address, _)| address))
}

#[cfg(test)]
mod tests {
    #[test]
    fn links_in_code_are_not_links() {
        let text = "a [b](c.md) and [d](e.md#f)\n```\n[x](y.md)\n```\n[g](h)";
        assert_eq!(super::links(text).collect::<Vec<_>>(), ["c.md", "e.md#f", "h"]);
    }
}
