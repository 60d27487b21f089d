//! Names that follow from content: the hash of a pod template and the suffixes of derived names.
//!
//! The hashes are FNV-1a with 32 bits, written in Kubernetes' alphabet, which spells no words. They tell versions apart;
//! they protect against nobody. A collision is found by comparing templates and is answered by the next collision count.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;
use serin_api::keys::label;
use serin_api::units::RevisionHash;

/// No vowels and none of 0, 1 and 3: no suffix reads as a word.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const OFFSET_BASIS: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;
const SHORT_LENGTH: usize = 5;

/// The hash that names a version: the same for templates that [`templates_equal`] calls equal. `collision` is the number of
/// times that another template already had this name, 0 at first.
pub fn template_hash(template: &PodTemplateSpec, collision: u32) -> RevisionHash {
    text_hash(&template_text(template), collision)
}

/// A template as text: the same for templates that are the same.
pub(crate) fn template_text(template: &PodTemplateSpec) -> String {
    let mut text = String::new();
    write_canonical(&content(template), &mut text);
    text
}

/// The same as [`template_hash`] for the text of a template.
pub(crate) fn text_hash(text: &str, collision: u32) -> RevisionHash {
    let mut hash = fnv1a(OFFSET_BASIS, text.as_bytes());
    if collision > 0 {
        hash = fnv1a(hash, &collision.to_le_bytes());
    }
    let digits = hash.to_string();
    RevisionHash::new(digits.bytes().map(letter).collect::<String>())
}

/// Whether two templates make the same pods. The labels that carry the hash itself do not count, nor whether a default is
/// written out, as an API does when it stores one.
pub fn templates_equal(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let (mut a, mut b) = (content(a), content(b));
    if a == b {
        return true;
    }
    serin_api::defaults::pod_template(&mut a);
    serin_api::defaults::pod_template(&mut b);
    a == b
}

/// Tells templates apart where [`template_hash`] may not: 64 bits, for an annotation. As for [`templates_equal`], it does not
/// count whether a default is written out: what is read back from an API and given to it again is the same template.
pub fn template_digest(template: &PodTemplateSpec) -> String {
    let mut content = content(template);
    serin_api::defaults::pod_template(&mut content);
    let mut text = String::new();
    write_canonical(&content, &mut text);
    let one = fnv1a(OFFSET_BASIS, text.as_bytes());
    let other = fnv1a(fnv1a(OFFSET_BASIS, b"digest"), text.as_bytes());
    format!("{one:08x}{other:08x}")
}

/// Five letters that follow from `parts`, for derived names: `["ab", "c"]` and `["a", "bc"]` give different ones.
pub fn short(parts: &[&str]) -> String {
    let mut hash = OFFSET_BASIS;
    for part in parts {
        hash = fnv1a(hash, part.as_bytes());
        hash = fnv1a(hash, &[0]);
    }
    let mut rest = hash;
    let mut text = String::with_capacity(SHORT_LENGTH);
    for _ in 0..SHORT_LENGTH {
        text.push(letter((rest % 27) as u8));
        rest /= 27;
    }
    text
}

/// What of a template counts, as JSON.
fn content(template: &PodTemplateSpec) -> Value {
    let mut template = template.clone();
    if let Some(metadata) = &mut template.metadata {
        metadata.creation_timestamp = None;
        if let Some(labels) = &mut metadata.labels {
            labels.remove(label::POD_TEMPLATE_HASH);
            labels.remove(label::ROLLOUT_POD_TEMPLATE_HASH);
        }
        metadata.labels = metadata.labels.take().filter(|l| !l.is_empty());
        metadata.annotations = metadata.annotations.take().filter(|a| !a.is_empty());
    }
    template.metadata = template.metadata.filter(|m| *m != Default::default());
    // A template is plain data: every part of it has a JSON form.
    serde_json::to_value(&template).unwrap_or_default()
}

/// JSON with sorted keys and no spaces.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in entries {
                out.push_str(&serde_json::to_string(key).unwrap_or_default());
                out.push(':');
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        leaf => out.push_str(&serde_json::to_string(leaf).unwrap_or_default()),
    }
}

fn fnv1a(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(PRIME)
    })
}

#[expect(
    clippy::indexing_slicing,
    reason = "a remainder of the length is within the alphabet"
)]
fn letter(byte: u8) -> char {
    char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    fn web(image: &str) -> Value {
        json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": image}]},
        })
    }

    #[test]
    fn a_digest_does_not_count_defaults_that_are_written_out() {
        let written = web("nginx:1.20");
        let mut stored = written.clone();
        serin_api::defaults::pod_template(&mut stored);
        assert_ne!(written, stored);
        assert_eq!(
            template_digest(&template(written)),
            template_digest(&template(stored))
        );
    }

    #[test]
    fn a_hash_is_stable_from_release_to_release() {
        let shown = [
            template_hash(&template(web("nginx:1.20")), 0).to_string(),
            template_hash(&template(web("nginx:1.20")), 1).to_string(),
            template_hash(&template(web("nginx:1.21")), 0).to_string(),
            short(&["uid", "0"]),
            short(&["uid", "1"]),
        ];
        expect![[r#"
            799bcf5978
            5f56b76987
            6b979968df
            dkdx9
            68zzs"#]]
        .assert_eq(&shown.join("\n"));
    }

    #[test]
    fn the_hash_labels_and_empty_metadata_do_not_count() {
        let plain = template(web("nginx"));
        let mut labelled = web("nginx");
        labelled["metadata"]["labels"]["pod-template-hash"] = json!("abc");
        labelled["metadata"]["labels"]["rollouts-pod-template-hash"] = json!("abc");
        labelled["metadata"]["annotations"] = json!({});
        let labelled = template(labelled);
        assert!(templates_equal(&plain, &labelled));
        assert_eq!(template_hash(&plain, 0), template_hash(&labelled, 0));

        let spec = json!({"containers": []});
        let bare = template(json!({"spec": spec}));
        let empty = template(json!({"metadata": {"labels": {}}, "spec": spec}));
        assert!(templates_equal(&bare, &empty));
    }

    #[test]
    fn anything_else_counts() {
        let plain = template(web("nginx"));
        let mut restarted = web("nginx");
        restarted["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": "now"});
        assert!(!templates_equal(&plain, &template(restarted)));
        assert!(!templates_equal(&plain, &template(web("httpd"))));
    }

    #[test]
    fn the_parts_of_a_name_are_kept_apart() {
        assert_ne!(short(&["ab", "c"]), short(&["a", "bc"]));
        assert_eq!(short(&["ab", "c"]).len(), 5);
    }
}
