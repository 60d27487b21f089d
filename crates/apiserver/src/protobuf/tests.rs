use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::schema::{Field, LIST, Shape, Type, message};
use super::*;

/// Writes an object as a Go client does, as far as the properties need it.
fn encode(object: &Value) -> Vec<u8> {
    let (api_version, kind) = (&object["apiVersion"], &object["kind"]);
    let fields = schema::kind(api_version.as_str().unwrap(), kind.as_str().unwrap()).unwrap();
    let mut type_meta = Vec::new();
    put(&mut type_meta, 1, api_version.as_str().unwrap().as_bytes());
    put(&mut type_meta, 2, kind.as_str().unwrap().as_bytes());
    let mut out = MAGIC.to_vec();
    put(&mut out, 1, &type_meta);
    put(&mut out, 2, &encode_message(fields, object));
    out
}

fn encode_message(fields: &[Field], object: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        match (field.shape, field.type_) {
            (Shape::Inlined, Type::Message(inner)) => {
                put(
                    &mut out,
                    field.number,
                    &encode_message(message(inner), object),
                );
                continue;
            }
            _ if object.get(field.name).is_none() => continue,
            _ => {}
        }
        let value = &object[field.name];
        match field.shape {
            Shape::List => {
                for item in value.as_array().unwrap() {
                    encode_value(&mut out, field.number, field.type_, item);
                }
            }
            Shape::Map => {
                for (key, value) in value.as_object().unwrap() {
                    let mut entry = Vec::new();
                    put(&mut entry, 1, key.as_bytes());
                    encode_value(&mut entry, 2, field.type_, value);
                    put(&mut out, field.number, &entry);
                }
            }
            Shape::One | Shape::Inlined => encode_value(&mut out, field.number, field.type_, value),
        }
    }
    out
}

fn encode_value(out: &mut Vec<u8>, number: u32, type_: Type, value: &Value) {
    let mut inner = Vec::new();
    match type_ {
        Type::Text => return put(out, number, value.as_str().unwrap().as_bytes()),
        Type::Bytes => {
            let bytes = BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
            return put(out, number, &bytes);
        }
        Type::Bool => return put_number(out, number, value.as_bool().unwrap().into()),
        Type::Int32 | Type::Int64 => {
            return put_number(out, number, value.as_i64().unwrap().cast_unsigned());
        }
        Type::Double => panic!("no kind of the tests has one"),
        Type::Time { .. } => {
            let at: Timestamp = value.as_str().unwrap().parse().unwrap();
            put_number(&mut inner, 1, at.as_second().cast_unsigned());
            put_number(
                &mut inner,
                2,
                u64::try_from(at.subsec_nanosecond()).unwrap(),
            );
        }
        Type::Json => put(&mut inner, 1, value.to_string().as_bytes()),
        Type::IntOrString => match value {
            Value::String(text) => {
                put_number(&mut inner, 1, 1);
                put(&mut inner, 3, text.as_bytes());
            }
            number => put_number(&mut inner, 2, number.as_i64().unwrap().cast_unsigned()),
        },
        Type::Quantity => put(&mut inner, 1, value.as_str().unwrap().as_bytes()),
        Type::Message(name) if schema::is_list(name) => {
            inner = encode_message(message(name), &json!({ LIST: value }));
        }
        Type::Message(name) => inner = encode_message(message(name), value),
    }
    put(out, number, &inner);
}

fn put(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) << 3);
    varint(out, value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn full() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 7, "labels": {"a": "b", "": ""},
            "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "paused": true,
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": -1}},
            "template": {"spec": {
                "securityContext": {"supplementalGroups": [1, 2, -3]},
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
                "containers": [{
                    "name": "c", "image": "x", "resources": {"limits": {"cpu": "500m"}},
                    "envFrom": [{"configMapRef": {"name": "e"}}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 3},
                }],
            }},
        },
    })
}

#[test]
fn what_is_written_is_read() {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "data": {"k": "AAEC"}, "immutable": false});
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "spec": {"holderIdentity": "a", "renewTime": "2026-01-02T03:04:05.123456Z"}});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "u", "extra": {"k": ["a", "b"]}}});
    let options = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
    for object_ in [full(), secret, lease, review, options] {
        assert_eq!(object(&encode(&object_)), Ok(object_));
    }
}

/// What kubectl 1.33 sends.
#[test]
fn objects_of_kubectl() {
    let check = |bytes: &[u8], want: Expect| want.assert_eq(&object(bytes).unwrap().to_string());
    check(
        include_bytes!("../../tests/data/protobuf/deployments.bin"),
        expect![[
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"labels":{"app":"web"},"name":"web"},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},"strategy":{},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"nginx:1.25","name":"nginx","ports":[{"containerPort":80}],"resources":{}}]}}},"status":{}}"#
        ]],
    );
    check(
        include_bytes!("../../tests/data/protobuf/jobs.bin"),
        expect![[
            r#"{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j"},"spec":{"template":{"metadata":{},"spec":{"containers":[{"command":["echo","hi"],"image":"busybox","name":"j","resources":{}}],"restartPolicy":"Never"}}},"status":{}}"#
        ]],
    );
    check(
        include_bytes!("../../tests/data/protobuf/ingresses.bin"),
        expect![[
            r#"{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"i"},"spec":{"rules":[{"host":"a.example","http":{"paths":[{"backend":{"service":{"name":"s","port":{"name":"http"}}},"path":"/path","pathType":"Exact"}]}}]},"status":{"loadBalancer":{}}}"#
        ]],
    );
    check(
        include_bytes!("../../tests/data/protobuf/secrets.bin"),
        expect![[
            r#"{"apiVersion":"v1","data":{"a":"Yg=="},"kind":"Secret","metadata":{"name":"s"}}"#
        ]],
    );
    check(
        include_bytes!("../../tests/data/protobuf/poddisruptionbudgets.bin"),
        expect![[
            r#"{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"p"},"spec":{"minAvailable":"50%","selector":{"matchLabels":{"a":"b"}}},"status":{"currentHealthy":0,"desiredHealthy":0,"disruptionsAllowed":0,"expectedPods":0}}"#
        ]],
    );
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    let check = |bytes: &[u8], want: Expect| {
        want.assert_eq(&object(bytes).unwrap_err().to_string());
    };
    check(b"{}", expect![[r#"it does not begin with k8s\0"#]]);
    check(b"k8s\0\x0a\x05", expect!["the message is cut off"]);
    check(b"k8s\0\x00", expect!["a field has no number"]);
    check(
        b"k8s\0\x0f\x01",
        expect!["field 1 has the unknown wire type 7"],
    );
    check(
        &[b"k8s\0", &[0xff; 12][..]].concat(),
        expect!["a number is longer than 64 bits"],
    );
    let mut unknown = MAGIC.to_vec();
    put(&mut unknown, 1, b"\x0a\x02v9\x12\x03Pod");
    check(
        &unknown,
        expect![[r#"no message is known for kind "Pod" of "v9": send it as application/json"#]],
    );
    // A name of a container that is no text.
    let mut broken = encode(&full());
    let at = broken.windows(3).rposition(|w| w == b"\x0a\x01c").unwrap();
    broken[at + 2] = 0xff;
    check(
        &broken,
        expect!["spec.template.spec.containers[0].name: the text is no UTF-8 at byte 0"],
    );
}

#[test]
fn unknown_fields_are_passed_over() {
    let mut unknown = Vec::new();
    put(&mut unknown, 99, b"later");
    put_number(&mut unknown, 100, 1);
    let mut whole = MAGIC.to_vec();
    put(&mut whole, 1, b"\x0a\x02v1\x12\x03Pod");
    put(&mut whole, 2, &unknown);
    let pod = json!({"apiVersion": "v1", "kind": "Pod"});
    assert_eq!(object(&whole), Ok(pod));
}

proptest! {
    /// Whatever comes, the answer is an object or an error.
    #[test]
    fn damaged_objects_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&full());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = object(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = object(&bytes);
    }

    #[test]
    fn noise_does_no_harm(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = MAGIC.to_vec();
        put(&mut bytes, 1, b"\x0a\x02v1\x12\x03Pod");
        put(&mut bytes, 2, &noise);
        let _ = object(&bytes);
    }
}
