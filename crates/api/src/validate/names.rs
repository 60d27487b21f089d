//! What names may look like. A function gives why a text is no such name; `None` when it is one.

/// Names of most objects: labels joined by dots.
pub(super) fn subdomain(text: &str) -> Option<&'static str> {
    const WHY: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')";
    if text.len() > 253 {
        return Some("must be no more than 253 bytes");
    }
    text.split('.').any(|part| !is_label(part)).then_some(WHY)
}

/// Names of containers, ports of Services and Namespaces.
pub(super) fn label(text: &str) -> Option<&'static str> {
    const WHY: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc')";
    if text.len() > 63 {
        return Some("must be no more than 63 bytes");
    }
    (!is_label(text)).then_some(WHY)
}

/// Names of Services.
pub(super) fn service(text: &str) -> Option<&'static str> {
    const WHY: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name', or 'abc-123')";
    if text.len() > 63 {
        return Some("must be no more than 63 bytes");
    }
    let letter_first = text.starts_with(|c: char| c.is_ascii_lowercase());
    (!is_label(text) || !letter_first).then_some(WHY)
}

/// A name that only has to be one step of a path, such as `system:discovery`.
pub(super) fn path_segment(text: &str) -> Option<&'static str> {
    match text {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        text if text.contains('/') => Some("may not contain '/'"),
        text if text.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

/// Hosts: a subdomain, or one behind `*.`.
pub(super) fn host(text: &str) -> Option<&'static str> {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Some("must be a DNS name, not an IP address");
    }
    subdomain(text.strip_prefix("*.").unwrap_or(text))
}

/// Names of ports that are looked up by programs.
pub(super) fn port(text: &str) -> Option<&'static str> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.len() > 15 {
        Some("must be no more than 15 characters")
    } else if !text.chars().all(known) {
        Some("must contain only lower case alphanumeric characters (a-z, 0-9), and hyphens (-)")
    } else if !text.contains(|c: char| c.is_ascii_lowercase()) {
        Some("must contain at least one letter (a-z)")
    } else if text.contains("--") {
        Some("must not contain consecutive hyphens")
    } else if text.starts_with('-') || text.ends_with('-') {
        Some("must not begin or end with a hyphen")
    } else {
        None
    }
}

/// Keys of labels and annotations: a name, or a subdomain, a slash and a name.
pub(super) fn qualified(text: &str) -> Option<&'static str> {
    const WHY: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc')";
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    match prefix {
        Some("") => return Some("prefix part must be non-empty"),
        Some(prefix) if subdomain(prefix).is_some() => {
            return Some("prefix part must be a lowercase RFC 1123 subdomain (e.g. 'example.com')");
        }
        _ => {}
    }
    if name.is_empty() {
        Some("name part must be non-empty")
    } else if name.len() > 63 {
        Some("name part must be no more than 63 bytes")
    } else {
        (!is_word(name)).then_some(WHY)
    }
}

/// Values of labels.
pub(super) fn label_value(text: &str) -> Option<&'static str> {
    const WHY: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')";
    if text.len() > 63 {
        return Some("must be no more than 63 bytes");
    }
    (!text.is_empty() && !is_word(text)).then_some(WHY)
}

/// Keys of ConfigMaps and Secrets, which can become names of files.
pub(super) fn data_key(text: &str) -> Option<&'static str> {
    const WHY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', or 'KEY_NAME', or 'key-name')";
    if text.len() > 253 {
        Some("must be no more than 253 bytes")
    } else if text == "." || text.starts_with("..") {
        Some("must not be '.', and must not start with '..'")
    } else {
        (text.is_empty() || !text.chars().all(is_word_character)).then_some(WHY)
    }
}

/// Names of environment variables.
pub(super) fn variable(text: &str) -> Option<&'static str> {
    const WHY: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
    let known = |c: char| (c.is_ascii_graphic() || c == ' ') && c != '=';
    (!text.chars().all(known)).then_some(WHY)
}

fn is_label(text: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(known) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_word(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.chars().all(is_word_character) && text.starts_with(edge) && text.ends_with(edge)
}

fn is_word_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_cluster_pass_and_others_do_not() {
        type Rule = fn(&str) -> Option<&'static str>;
        let long = "a".repeat(64);
        let table: &[(Rule, &[&str], &[&str])] = &[
            (
                subdomain,
                &["a", "a-1.b", "1"],
                &["", "A", "a_b", "-a", "a-", "a..b", ".a", "网"],
            ),
            (label, &["a", "1a"], &["a.b", "", &long]),
            (service, &["web", "web-1"], &["1web", "web.app"]),
            (
                host,
                &["*.example.com", "a.b"],
                &["*", "a.*.b", "127.0.0.1", "*."],
            ),
            (
                port,
                &["http", "h2c-1"],
                &["80", "a--b", "-a", "HTTP", "sixteen-letters-"],
            ),
            (
                qualified,
                &["app", "app.kubernetes.io/name", "A_b.c"],
                &["", "/a", "a/", "a/b/c", "A.io/x", "a b"],
            ),
            (label_value, &["", "v1.2_3", "A"], &["-a", "a b", &long]),
            (
                data_key,
                &["a.yaml", "_A-1", ".env"],
                &["", ".", "..", "..a", "a/b", "a b"],
            ),
            (variable, &["A", "a.b-c", "0"], &["A=B", "Ä"]),
        ];
        for (rule, good, bad) in table {
            for text in *good {
                assert_eq!(rule(text), None, "{text}");
            }
            for text in *bad {
                assert!(rule(text).is_some(), "{text}");
            }
        }
    }
}
