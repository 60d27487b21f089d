//! What holds of every text and every object.

#![expect(clippy::panic, reason = "a test ends by a panic")]

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use serin_api::{defaults, kinds, manifest, schema, validate};

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no infinite numbers", |f| f.is_finite())
            .prop_map(Value::from),
        any::<String>()
            .prop_filter("control characters are refused", |s| !s.contains('\u{7f}'))
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[^\u{7f}]{0,8}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn objects() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-z]{1,6}", json_values(), 0..6)
        .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>()))
}

/// Text that looks like a manifest more often than chance would have it.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            "apiVersion: v1\n",
            "kind: List\n",
            "items:\n",
            "- ",
            "  ",
            "\n",
            "---\n",
            "a: ",
            "&a ",
            "*a ",
            "<<: ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            ": ",
            "\"",
            "'",
            "|\n",
            ">-\n",
            "\t",
            "# ",
            "!!str ",
            "? ",
            "0x",
            "\\u",
            "%YAML 1.2\n",
            "...\n",
            "\u{feff}",
            "版",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn only_object(text: &str) -> Value {
    let manifest = manifest::parse(text, "x");
    let parsed = manifest.objects.iter().map(|d| d.object.clone()).next();
    parsed.unwrap_or_else(|| panic!("{text}: {:?}", manifest.problems))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_never_panics(text in texts()) {
        manifest::parse(&text, "x");
    }

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        manifest::parse_bytes(&bytes, "x");
    }

    #[test]
    fn every_place_is_in_the_text(text in texts()) {
        let lines = text.split('\n').count() + 1;
        for problem in manifest::parse(&text, "x").problems {
            prop_assert!(problem.line as usize <= lines && problem.line > 0 && problem.column > 0, "{problem}");
        }
    }

    #[test]
    fn json_reads_back_equal(object in objects()) {
        prop_assert_eq!(&only_object(&object.to_string()), &object);
        prop_assert_eq!(&only_object(&serde_json::to_string_pretty(&object).unwrap()), &object);
    }

    #[test]
    fn any_object_can_be_judged_and_filled_in(spec in json_values(), metadata in json_values(), extra in objects()) {
        for kind in kinds::all() {
            let mut object = extra.clone();
            object["metadata"] = metadata.clone();
            object["spec"] = spec.clone();
            validate::check(kind, &object);
            validate::check_update(kind, &extra, &object);
            defaults::apply(kind, &mut object);
            let once = object.clone();
            defaults::apply(kind, &mut object);
            prop_assert_eq!(&object, &once);
        }
    }
}

/// A value that has the shape, as deep as `depth` allows, with every field there is.
fn full(shape: &schema::Shape, depth: usize) -> Value {
    use schema::Shape;
    match shape {
        Shape::Object(fields) if depth > 0 => {
            let fields = fields.fields.iter();
            let fields = fields.map(|(name, shape)| (name.to_string(), full(shape, depth - 1)));
            Value::Object(fields.collect())
        }
        Shape::Array(item) if depth > 0 => json!([full(item, depth - 1), null]),
        Shape::Map(entry) if depth > 0 => {
            json!({"Bad Key": full(entry, depth - 1), "good": full(entry, depth - 1)})
        }
        Shape::Object(_) | Shape::Map(_) => json!({}),
        Shape::Array(_) => json!([]),
        Shape::Integer { min, .. } => json!(min),
        Shape::Number => json!(-1.5),
        Shape::Boolean => json!(true),
        Shape::IntOrString => json!(-1),
        _ => json!("{{args.x}} -"),
    }
}

#[test]
fn objects_with_every_field_can_be_judged_and_filled_in() {
    for kind in kinds::all() {
        for depth in 0..14 {
            let mut object = full(schema::of(kind), depth);
            validate::check(kind, &object);
            validate::check_update(kind, &object, &json!({}));
            defaults::apply(kind, &mut object);
            let now = jiff::Timestamp::UNIX_EPOCH;
            for column in kind.columns {
                column.value(&object, now);
            }
        }
    }
}
