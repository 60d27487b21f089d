//! Texts that are not as they should be, and what is said of them.

use std::fmt::Write;

use expect_test::{Expect, expect};
use serin_api::FieldPath;
use serin_api::manifest::{self, MOST_BYTES};

fn check(text: &str, expected: Expect) {
    check_bytes(text.as_bytes(), expected);
}

fn check_bytes(bytes: &[u8], expected: Expect) {
    let manifest = manifest::parse_bytes(bytes, "web.yaml");
    let mut lines: Vec<_> = manifest.problems.iter().map(ToString::to_string).collect();
    lines.extend(
        manifest
            .objects
            .iter()
            .map(|d| format!("line {}: {}", d.line, d.object)),
    );
    expected.assert_eq(&lines.join("\n"));
}

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

#[test]
fn kinds_that_do_not_exist() {
    let head = |api_version: &str, kind: &str| {
        format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n---\n")
    };
    let text: String = [
        ("apps/v1", "deployment"),
        ("apps/v1beta1", "Deployment"),
        ("extensions/v1beta1", "Ingress"),
        ("v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("v1", "Servce"),
        ("argoproj.io/v1", "Rollout"),
        ("batch/v1", "Job"),
        ("apps/v2", "replicaset"),
    ]
    .iter()
    .map(|(api_version, kind)| head(api_version, kind))
    .collect();
    let manifest = manifest::parse(&text, "web.yaml");
    let lines: Vec<_> = manifest.problems.iter().map(ToString::to_string).collect();
    expect![[r#"
        web.yaml:2:1: deployment/a: kind: Invalid value: "deployment": apps/v1 has no such kind, did you mean "Deployment"?
        web.yaml:5:1: Deployment/a: apiVersion: Invalid value: "apps/v1beta1": removed, use apps/v1
        web.yaml:9:1: Ingress/a: apiVersion: Invalid value: "extensions/v1beta1": removed, use networking.k8s.io/v1
        web.yaml:13:1: Deployment/a: apiVersion: Invalid value: "v1": not served for this kind, use apps/v1
        web.yaml:18:1: StatefulSet/a: kind: StatefulSet of apps/v1 is not served by this version of Serin; use a Deployment or a Rollout
        web.yaml:22:1: Servce/a: kind: Invalid value: "Servce": v1 has no such kind, did you mean "Service"?
        web.yaml:25:1: Rollout/a: apiVersion: Invalid value: "argoproj.io/v1": not served for this kind, use argoproj.io/v1alpha1
        web.yaml:29:1: Job/a: spec: Required value
        web.yaml:34:1: replicaset/a: kind: Invalid value: "replicaset": did you mean "ReplicaSet" of apps/v1?"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn kind_or_version_missing() {
    check(
        "kind: Deployment\nmetadata: {name: a}\n---\nmetadata: {name: b}\n---\napiVersion: 1\nkind: \"\"\n",
        expect![[r#"
            web.yaml:1:1: Deployment/a: apiVersion: Required value: write apps/v1 for a Deployment
            web.yaml:4:1: object/b: apiVersion: Required value: write the group and version of the kind, such as apps/v1
            web.yaml:4:1: object/b: kind: Required value: write the kind, such as Deployment
            web.yaml:6:1: apiVersion: expected string, found 1
            web.yaml:7:1: kind: Required value: write the kind, such as Deployment
            line 1: {"kind":"Deployment","metadata":{"name":"a"}}
            line 4: {"metadata":{"name":"b"}}
            line 6: {"apiVersion":1,"kind":""}"#]],
    );
}

#[test]
fn empty_texts_have_no_objects() {
    for text in [
        "",
        "\n\n",
        "---\n",
        "# nothing\n",
        "---\n---\n...\n",
        "\u{feff}",
        "null\n",
        "---\n# only words\n---\n~\n",
    ] {
        let manifest = manifest::parse(text, "web.yaml");
        assert!(
            manifest.objects.is_empty() && manifest.problems.is_empty(),
            "{text:?}: {manifest:?}"
        );
    }
}

#[test]
fn documents_that_are_no_objects() {
    check(
        "just words\n---\n- a\n- b\n---\n3\n---\n[{\"a\": 1}]\n",
        expect![[r#"
            web.yaml:1:1: expected an object, found text
            web.yaml:3:1: expected an object, found a list
            web.yaml:6:1: expected an object, found a number
            web.yaml:8:1: expected an object, found a list"#]],
    );
}

#[test]
fn a_fault_of_syntax_does_not_hide_other_documents() {
    let text = format!(
        "{CONFIG}dta: {{}}\n---\na: [1, 2\nb: }}\n---\n{CONFIG}data: {{a: 1}}\n---\nkey: value: again\n---\n{CONFIG}"
    );
    check(
        &text,
        expect![[r#"
        web.yaml:5:1: ConfigMap/a: dta: unknown field, did you mean "data"?
        web.yaml:8:2: not valid YAML: illegal placement of ':' indicator
        web.yaml:13:3: ConfigMap/a: warning: metadata.name: the same object stands in line 1; the later one wins
        web.yaml:14:8: ConfigMap/a: data[a]: expected string, found number 1; put it in quotes
        web.yaml:16:11: not valid YAML: mapping values are not allowed in this context
        web.yaml:21:3: ConfigMap/a: warning: metadata.name: the same object stands in line 1; the later one wins
        line 1: {"apiVersion":"v1","dta":{},"kind":"ConfigMap","metadata":{"name":"a"}}
        line 10: {"apiVersion":"v1","data":{"a":1},"kind":"ConfigMap","metadata":{"name":"a"}}
        line 18: {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#]],
    );
}

#[test]
fn tabs_anchors_tags_and_quotes() {
    check(
        "a:\n\tb: 1\n",
        expect![
            "web.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation); indent with spaces"
        ],
    );
    check(
        "a: *nowhere\n",
        expect![
            "web.yaml:1:4: not valid YAML: while parsing node, found unknown anchor; define it with & before its first use"
        ],
    );
    check(
        "a: &a [*a]\n",
        expect!["web.yaml:1:8: an alias to a value that has not ended yet"],
    );
    check(
        "a: \"never ends\nb: 1\n",
        expect!["web.yaml:1:4: not valid YAML: invalid indentation in quoted scalar"],
    );
    check(
        "a: !!binary aGVsbG8=\nb: !Ref x\n",
        expect![[r#"
        web.yaml:1:1: object: apiVersion: Required value: write the group and version of the kind, such as apps/v1
        web.yaml:1:1: object: kind: Required value: write the kind, such as Deployment
        web.yaml:1:4: the tag tag:yaml.org,2002:binary is not supported
        web.yaml:2:4: the tag !Ref is not supported
        line 1: {"a":"aGVsbG8=","b":"x"}"#]],
    );
    check(
        "? [a, b]\n: 1\n",
        expect!["web.yaml:1:3: a key must be text, found a list or a map"],
    );
    check(
        "a: 1\n b: 2\n",
        expect!["web.yaml:2:3: not valid YAML: mapping values are not allowed in this context"],
    );
    check(
        "a: b: c\n",
        expect!["web.yaml:1:5: not valid YAML: mapping values are not allowed in this context"],
    );
    check(
        "a: %x\n",
        expect!["web.yaml:1:4: not valid YAML: unexpected character: `%'"],
    );
    check(
        "{\"a\": 1,\n \"b\" 2}\n",
        expect![
            "web.yaml:2:6: not valid YAML: invalid trailing content after double-quoted scalar"
        ],
    );
}

#[test]
fn duplicate_keys_are_refused_with_both_lines() {
    let text = format!("{CONFIG}data:\n  a: x\n  b: y\n  a: z\n");
    check(
        &text,
        expect![[r#"
        web.yaml:8:3: duplicate key "a": it stands in line 6 already
        line 1: {"apiVersion":"v1","data":{"a":"z","b":"y"},"kind":"ConfigMap","metadata":{"name":"a"}}"#]],
    );
    check(
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
 "kind": "Secret"}"#,
        expect![[r#"
            web.yaml:2:2: duplicate key "kind": it stands in line 1 already
            line 1: {"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}"#]],
    );
}

#[test]
fn bytes_that_are_no_text() {
    check(
        "a: b\nc: d\0e\n",
        expect!["web.yaml:2:5: control character U+0000 in the text"],
    );
    check(
        "a: \u{1b}[31m\n",
        expect!["web.yaml:1:4: control character U+001B in the text"],
    );
    check_bytes(
        b"a: b\nname: \xff\xfe\n",
        expect!["web.yaml:2:7: the text is not UTF-8 here"],
    );
    check_bytes(
        b"\xff\xfea\0:\0",
        expect!["web.yaml:1:1: the text is UTF-16; save it as UTF-8"],
    );
    check(
        "\u{feff}apiVersion: v1\r\nkind: ConfigMap\r\nmetadata: {name: a}\r\ndata:\r\n  k: |\r\n    x\r\n    y\r\n",
        expect![[
            r#"line 1: {"apiVersion":"v1","data":{"k":"x\ny\n"},"kind":"ConfigMap","metadata":{"name":"a"}}"#
        ]],
    );
}

#[test]
fn words_stay_words() {
    let text = format!(
        "{CONFIG}data:\n  a: \"80\"\n  b: 'true'\n  c: no\n  d: on\n  e: |\n    1\n  f: 1.20\n  g: ~\n  h: !!str 1.20\n  版本: 好\n"
    );
    check(
        &text,
        expect![[r#"
        web.yaml:12:3: ConfigMap/a: data[f]: expected string, found number 1.2; put it in quotes
        web.yaml:13:3: ConfigMap/a: data[g]: expected string, found null; write "" for an empty text
        web.yaml:15:3: ConfigMap/a: data[版本]: Invalid value: "版本": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', or 'KEY_NAME', or 'key-name')
        line 1: {"apiVersion":"v1","data":{"a":"80","b":"true","c":"no","d":"on","e":"1\n","f":1.2,"g":null,"h":"1.20","版本":"好"},"kind":"ConfigMap","metadata":{"name":"a"}}"#]],
    );
}

#[test]
fn numbers_are_exact_or_refused() {
    check(
        "a: 9223372036854775807\nb: 18446744073709551615\nc: 18446744073709551616\nd: .nan\ne: 0644\nf: 1e3\n",
        expect![[r#"
            web.yaml:1:1: object: apiVersion: Required value: write the group and version of the kind, such as apps/v1
            web.yaml:1:1: object: kind: Required value: write the kind, such as Deployment
            web.yaml:3:4: 18446744073709551616: the number does not fit into 64 bits; put it in quotes if it is text
            web.yaml:4:4: .nan: objects cannot hold infinite numbers; put it in quotes if it is text
            line 1: {"a":9223372036854775807,"b":18446744073709551615,"c":null,"d":null,"e":420,"f":1000.0}"#]],
    );
    check(
        "{\"a\": 18446744073709551615, \"b\": 18446744073709551616, \"c\": 1e999, \"d\": -0, \"e\": 0.1}",
        expect![[r#"
            web.yaml:1:1: object: apiVersion: Required value: write the group and version of the kind, such as apps/v1
            web.yaml:1:1: object: kind: Required value: write the kind, such as Deployment
            web.yaml:1:34: 18446744073709551616: the number does not fit into 64 bits; put it in quotes if it is text
            web.yaml:1:61: 1e999: the number does not fit into 64 bits; put it in quotes if it is text
            line 1: {"a":18446744073709551615,"b":null,"c":null,"d":-0.0,"e":0.1}"#]],
    );
}

#[test]
fn aliases_and_merge_keys() {
    let text = "
base: &base {a: 1, b: {c: 2}}
other: &other {b: 3, d: 4}
one: {<<: *base, b: 5}
two: {<<: [*base, *other]}
list: [*base, *other]
text: {\"<<\": x}
";
    check(
        text,
        expect![[r#"
        web.yaml:2:1: object: apiVersion: Required value: write the group and version of the kind, such as apps/v1
        web.yaml:2:1: object: kind: Required value: write the kind, such as Deployment
        line 2: {"base":{"a":1,"b":{"c":2}},"list":[{"a":1,"b":{"c":2}},{"b":3,"d":4}],"one":{"a":1,"b":5},"other":{"b":3,"d":4},"text":{"<<":"x"},"two":{"a":1,"b":{"c":2},"d":4}}"#]],
    );
    check(
        "a: {<<: 3}\n",
        expect!["web.yaml:1:9: the value of << must be a map or a list of maps"],
    );
}

#[test]
fn lists_of_objects_are_flattened() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: B\n";
    check(
        text,
        expect![[r#"
        web.yaml:8:5: ConfigMap/B: metadata.name: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')
        line 4: {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}
        line 5: {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"B"}}"#]],
    );
}

#[test]
fn json_is_read_with_positions() {
    let text = "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"ConfigMap\",\n  \"metadata\": {\"name\": \"表\\ud83d\\ude00\", \"nam\": 1},\n  \"data\": {\"a\": 1}\n}\n{\"kind\": \"x\"}";
    check(
        text,
        expect![[r#"
        web.yaml:4:16: ConfigMap/表😀: metadata.name: Invalid value: "表😀": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')
        web.yaml:4:41: ConfigMap/表😀: metadata.nam: unknown field, did you mean "name"?
        web.yaml:5:12: ConfigMap/表😀: data[a]: expected string, found number 1; put it in quotes
        web.yaml:7:1: x: apiVersion: Required value: write the group and version of the kind, such as apps/v1
        line 1: {"apiVersion":"v1","data":{"a":1},"kind":"ConfigMap","metadata":{"nam":1,"name":"表😀"}}
        line 7: {"kind":"x"}"#]],
    );
}

#[test]
fn the_same_object_twice() {
    check(
        &format!("{CONFIG}---\n{CONFIG}"),
        expect![[r#"
        web.yaml:9:3: ConfigMap/a: warning: metadata.name: the same object stands in line 1; the later one wins
        line 1: {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}
        line 6: {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#]],
    );
}

#[test]
fn places_of_fields() {
    let text = format!(
        "{CONFIG}  labels:\n    app.kubernetes.io/name: x\n    app: y\n    \"a[0].b\": z\ndata:\n  a.b: x\n  a: y\n"
    );
    let manifest = manifest::parse(&text, "web.yaml");
    let place = |path: &str| {
        let at = manifest.objects[0].position(&FieldPath::new(path));
        format!("{}:{}", at.line, at.column)
    };
    assert_eq!(place(""), "1:1");
    assert_eq!(place("metadata.name"), "4:3");
    assert_eq!(place("metadata.labels[app.kubernetes.io/name]"), "6:5");
    assert_eq!(place("metadata.labels[a[0].b]"), "8:5");
    assert_eq!(place("metadata.labels[missing]"), "5:3");
    assert_eq!(place("data.a.b"), "10:3");
    assert_eq!(place("data.a"), "11:3");
    assert_eq!(place("spec.replicas"), "1:1");
}

/// Texts that are made to take long, each of which must be refused with few words.
#[test]
fn texts_that_would_take_long_are_refused() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let p = n - 1;
        writeln!(
            laughs,
            "a{n}: &a{n} [*a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}]"
        )
        .unwrap();
    }
    let mut merges = "a0: &a0 {x0: 1, y0: 2}\n".to_owned();
    for n in 1..60 {
        writeln!(
            merges,
            "a{n}: &a{n} {{x{n}: *a{0}, y{n}: *a{0}, <<: *a{0}}}",
            n - 1
        )
        .unwrap();
    }
    let long = format!(
        "a: &a \"{}\"\nb: [{}]\n",
        "x".repeat(1024 * 1024),
        "*a,".repeat(1000)
    );
    let many_keys: String = (0..250_000).map(|n| format!("k{n}: 1\n")).collect();
    let texts = [
        ("laughs", laughs),
        ("merges", merges),
        ("long text", long),
        ("deep flow", "[".repeat(100_000)),
        (
            "deep JSON",
            format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        ),
        ("deep maps", "{a: ".repeat(100_000)),
        ("deep block", "- ".repeat(100_000)),
        (
            "deep keys",
            (0..500).map(|n| format!("{}k:\n", " ".repeat(n))).collect(),
        ),
        ("questions", "? ".repeat(100_000)),
        ("wide", format!("[{}]", "1,".repeat(1_000_000))),
        ("many keys", many_keys),
        ("too large", "a: 1\n".repeat(MOST_BYTES / 5 + 1)),
        ("bangs", "! ".repeat(100_000)),
        ("anchors", "&a ".repeat(100_000)),
    ];
    let mut lines = Vec::new();
    for (name, text) in texts {
        let manifest = manifest::parse(&text, "web.yaml");
        assert!(manifest.objects.is_empty(), "{name}");
        assert!(manifest.is_refused(), "{name}");
        lines.push(format!("{name}: {}", manifest.problems[0]));
    }
    expect![[r#"
        laughs: web.yaml:6:10: more than 200000 values, counting what aliases stand for
        merges: web.yaml:10:14: more than 200000 values, counting what aliases stand for
        long text: web.yaml:2:17: more than 6291456 bytes, counting what aliases stand for
        deep flow: web.yaml:1:101: more than 100 lists and maps inside one another
        deep JSON: web.yaml:1:101: more than 100 lists and maps inside one another
        deep maps: web.yaml:1:1021: not valid YAML: recursion limit exceeded
        deep block: web.yaml:1:201: more than 100 lists and maps inside one another
        deep keys: web.yaml:101:101: more than 100 lists and maps inside one another
        questions: web.yaml:1:3: a key must be text, found a list or a map
        wide: web.yaml:1:400000: more than 200000 values, counting what aliases stand for
        many keys: web.yaml:200000:10: more than 200000 values, counting what aliases stand for
        too large: web.yaml:1:1: the text has 3145730 bytes, more than 3145728; split it
        bangs: web.yaml:1:1: expected an object, found text
        anchors: web.yaml:1:4: not valid YAML: did not find expected <document start>"#]]
    .assert_eq(&lines.join("\n"));
}

/// Nonsense that is read is told in part, and in bounded time.
#[test]
fn a_thousand_mistakes_are_not_all_told() {
    let fields: String = (0..40_000).map(|n| format!("  f{n}: 1\n")).collect();
    let text =
        format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n{fields}");
    let manifest = manifest::parse(&text, "web.yaml");
    assert!(
        manifest.problems.len() <= 200,
        "{}",
        manifest.problems.len()
    );
    let documents = "a: 1\n---\n".repeat(50_000);
    let manifest = manifest::parse(&documents, "web.yaml");
    assert_eq!(manifest.problems.len(), 500);
    let bad_keys: String = (0..60_000).map(|n| format!("  \"k {n}\": 1\n")).collect();
    let manifest = manifest::parse(&format!("{CONFIG}data:\n{bad_keys}"), "web.yaml");
    assert!(
        manifest.problems.len() <= 200,
        "{}",
        manifest.problems.len()
    );
}
