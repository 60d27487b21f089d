//! The links of a Markdown text.

/// A link to a file of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The line it stands in, from 1.
    pub(crate) line: usize,
    /// The path as written, without its fragment.
    pub(crate) path: String,
}

/// The links that name a file: `[text](path)`, `![text](path)`, `[name]: path` and `src="path"`. Links with a scheme, links
/// within the page and what stands in code are left out.
pub(crate) fn file_links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"]
            .into_iter()
            .find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => links.extend(line_targets(line).into_iter().map(|path| Link {
                line: index + 1,
                path,
            })),
        }
    }
    links
}

fn line_targets(line: &str) -> Vec<String> {
    let prose = without_inline_code(line);
    let inline = prose.split("](").skip(1).filter_map(|rest| {
        let end = rest.find(')')?;
        rest.get(..end)
    });
    let image = prose
        .split("src=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    let definition = prose
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .map(|(_, target)| target);
    inline
        .chain(image)
        .chain(definition)
        .filter_map(file_of)
        .collect()
}

fn without_inline_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// The path of a link target that names a file; `None` for anything else.
fn file_of(target: &str) -> Option<String> {
    let target = target.split_whitespace().next()?;
    let target = target.trim_start_matches('<').trim_end_matches('>');
    let path = target.split('#').next().unwrap_or_default();
    let has_scheme = path.contains("://") || path.starts_with("mailto:");
    (!path.is_empty() && !has_scheme).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(usize, &str)]) {
        let found = file_links(text);
        let found: Vec<(usize, &str)> = found
            .iter()
            .map(|link| (link.line, link.path.as_str()))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn every_form_of_a_link_is_found() {
        check(
            "See [a](a.md) and\n![p](img/p.svg \"A picture\").",
            &[(1, "a.md"), (2, "img/p.svg")],
        );
        check("[a](a.md#part) [b](<b.md>)", &[(1, "a.md"), (1, "b.md")]);
        check("[ref]: docs/ref.md", &[(1, "docs/ref.md")]);
        check("<img src=\"demo.svg\" width=\"9\">", &[(1, "demo.svg")]);
    }

    #[test]
    fn what_names_no_file_is_left_out() {
        check(
            "[a](https://example.com/x) [b](#part) [c](mailto:a@example.com)",
            &[],
        );
        check("```\n[a](b.md)\n```\n[c](d.md) `[e](f.md)`", &[(4, "d.md")]);
    }
}
