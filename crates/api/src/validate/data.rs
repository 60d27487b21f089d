//! ConfigMaps and Secrets. What a Secret holds is never repeated in a problem.

use super::field::Field;
use super::names;
use crate::Problem;

/// The most that one ConfigMap or Secret may hold, in bytes.
const MOST: usize = 1024 * 1024;

pub(super) fn config_map(root: &Field<'_>, out: &mut Vec<Problem>) {
    let (text, binary) = (root.get("data"), root.get("binaryData"));
    keys(&text, out);
    keys(&binary, out);
    for (key, field) in binary.entries() {
        if text.map().is_some_and(|data| data.contains_key(key)) {
            out.push(Problem::duplicate(field.path, key));
        }
    }
    total_size(&[&text, &binary], out);
}

pub(super) fn secret(root: &Field<'_>, out: &mut Vec<Problem>) {
    let (bytes, text) = (root.get("data"), root.get("stringData"));
    keys(&bytes, out);
    keys(&text, out);
    total_size(&[&bytes, &text], out);
    let wanted: &[&str] = match root.get("type").text_or_empty() {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in wanted {
        let given = |map: &Field<'_>| map.map().is_some_and(|map| map.contains_key(*key));
        if !given(&bytes) && !given(&text) {
            out.push(Problem::required(
                bytes.path.key(key),
                "the type of the Secret asks for it",
            ));
        }
    }
}

fn keys(map: &Field<'_>, out: &mut Vec<Problem>) {
    for (key, field) in map.entries() {
        if let Some(why) = names::data_key(key) {
            out.push(Problem::invalid(field.path, format!("{key:?}"), why));
        }
    }
}

fn total_size(maps: &[&Field<'_>], out: &mut Vec<Problem>) {
    let entries = maps.iter().flat_map(|map| map.entries());
    let size: usize = entries.map(|(_, value)| value.text_or_empty().len()).sum();
    if size > MOST
        && let Some(first) = maps.first()
    {
        let why = format!("Too long: must have at most {MOST} bytes");
        out.push(Problem::invalid(first.path.clone(), "(not shown)", &why));
    }
}
