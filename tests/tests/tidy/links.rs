//! Markdown as the rules need it: links, headings, names in backquotes, commands in fences.
//!
//! Called by the rules in `docs.rs`. It knows what this repository writes, not all of Markdown.

/// A link to a place in the repository.
pub struct Link {
    /// The line it stands on.
    pub line: usize,
    /// The path before `#`; empty for the page itself.
    pub path: String,
    /// The part after `#`; empty without one.
    pub anchor: String,
}

/// The lines of a page with their numbers: (line, text, whether inside a fence).
fn lines(text: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let mut fenced = false;
    text.lines().enumerate().map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (index + 1, line, fenced || fence)
    })
}

/// Every link that is no address of the web.
pub fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, text, _) in lines(text).filter(|(_, _, fenced)| !fenced) {
        let plain = without_code(text);
        let inline = plain.match_indices("](").filter_map(|(at, _)| {
            let rest = &plain[at + 2..];
            rest.split([')', ' ']).next()
        });
        let definition = plain
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "));
        for target in inline.chain(definition.map(|(_, target)| target.trim())) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            found.push(Link {
                line,
                path: path.into(),
                anchor: anchor.into(),
            });
        }
    }
    found
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

/// What stands in backquotes outside fences, with its line.
pub fn quoted(text: &str) -> Vec<(usize, &str)> {
    let outside = lines(text).filter(|(_, _, fenced)| !fenced);
    outside
        .flat_map(|(line, text, _)| text.split('`').skip(1).step_by(2).map(move |q| (line, q)))
        .collect()
}

/// The lines inside fences.
pub fn fenced(text: &str) -> impl Iterator<Item = &str> {
    lines(text)
        .filter(|(_, _, fenced)| *fenced)
        .map(|(_, line, _)| line)
}

/// The anchors that the headings of a page make, as forges make them.
pub fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, line, _) in lines(text).filter(|(_, _, fenced)| !fenced) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let keep = |c: char| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        };
        let slug: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter_map(keep)
            .collect();
        let again = (1..).map(|n| format!("{slug}-{n}"));
        let mut names = std::iter::once(slug.clone()).chain(again);
        found.extend(names.find(|name| !found.contains(name)));
    }
    found
}

/// `path` as seen from the folder of the page `from`; `None` when it leaves the repository.
pub fn resolve(from: &str, path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(from.into());
    }
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A `b`: c\n[x](y.md#z) and `[no](code.md)`\n```\n[no](fence.md)\n# no\n\
                        ```\n## Two words\n## Two words\n[d]: e.md\n[w](https://x.org/a.md)\n";

    #[test]
    fn links_are_found_outside_code() {
        let found = links(PAGE);
        let found: Vec<_> = found
            .iter()
            .map(|link| (link.line, link.path.as_str()))
            .collect();
        assert_eq!(found, [(2, "y.md"), (9, "e.md")]);
        assert_eq!(links(PAGE)[0].anchor, "z");
        assert_eq!(fenced(PAGE).nth(1), Some("[no](fence.md)"));
        assert_eq!(quoted(PAGE), [(1, "b"), (2, "[no](code.md)")]);
    }

    #[test]
    fn headings_make_anchors() {
        assert_eq!(anchors(PAGE), ["a-b-c", "two-words", "two-words-1"]);
    }

    #[test]
    fn paths_are_resolved_from_the_page() {
        assert_eq!(
            resolve("docs/adr/a.md", "../b.md").as_deref(),
            Some("docs/b.md")
        );
        assert_eq!(resolve("a.md", "./docs/").as_deref(), Some("docs"));
        assert_eq!(resolve("docs/a.md", "../../b.md"), None);
    }
}
