//! Kinds that are installed by a CustomResourceDefinition.

use expect_test::expect;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Raw, eventually};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
const BETA: &str = "/apis/example.com/v1beta1/namespaces/default/widgets";

fn definition() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["size"],
            "x-kubernetes-validations": [
                {"rule": "self.size <= self.most", "message": "size must not be above most"},
                {"rule": "self.color == oldSelf.color", "message": "color is immutable", "reason": "FieldValueForbidden"}],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "description": "How large it is."},
                "most": {"type": "integer", "default": 10},
                "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                "port": {"x-kubernetes-int-or-string": true},
                "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"],
                        "properties": {"name": {"type": "string"}, "value": {"type": "string"}}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
        "status": {"type": "object", "properties": {"size": {"type": "integer"}, "selector": {"type": "string"}}}}}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": schema, "deprecated": !storage,
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
                "labelSelectorPath": ".status.selector"}},
            "selectableFields": [{"jsonPath": ".spec.color"}],
            "additionalPrinterColumns": [
                {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [version("v1", true), version("v1beta1", false)]}})
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// A server with the definition.
async fn server() -> Raw {
    let server = Raw::new();
    let made = server.post(DEFINITIONS, &definition()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.json());
    server
}

#[tokio::test(start_paused = true)]
async fn an_installed_kind_behaves_as_a_built_in_one() {
    let server = server().await;
    let made = server
        .post(
            WIDGETS,
            &widget("a", json!({"size": 2, "junk": 1, "free": {"x": 1}})),
        )
        .await;
    assert_eq!(
        made.warnings(),
        ["299 - \"unknown field \\\"spec.junk\\\"\""]
    );
    let spec = json!({"size": 2, "most": 10, "color": "red", "free": {"x": 1}});
    assert_eq!(made.json()["spec"], spec);
    let strict = widget("b", json!({"size": 2, "junk": 1}));
    let strict = server
        .post(&format!("{WIDGETS}?fieldValidation=Strict"), &strict)
        .await;
    assert_eq!(
        strict.json()["message"],
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.junk\""
    );
    let table = server.table(WIDGETS).await.json();
    let headings: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(headings, ["Name", "Size", "Color", "Age"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 2, "red", "0s"]));
    for (query, found) in [("spec.color%3Dred", 1), ("spec.color%3Dgreen", 0)] {
        let list = server
            .get(&format!("{WIDGETS}?fieldSelector={query}"))
            .await;
        assert_eq!(list.json()["items"].as_array().unwrap().len(), found);
    }
    let unknown = server
        .get(&format!("{WIDGETS}?fieldSelector=spec.size%3D2"))
        .await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    let beta = server.get(&format!("{BETA}/a")).await;
    assert_eq!(
        beta.warnings(),
        ["299 - \"example.com/v1beta1 Widget is deprecated\""]
    );
    assert_eq!(beta.json()["apiVersion"], "example.com/v1beta1");
}

#[tokio::test(start_paused = true)]
async fn the_parts_of_an_installed_kind_are_written_apart() {
    let server = server().await;
    server.post(WIDGETS, &widget("a", json!({"size": 2}))).await;
    let status =
        json!({"status": {"size": 1, "selector": "app=a", "junk": 1}, "spec": {"size": 9}});
    let status = server
        .merge(&format!("{WIDGETS}/a/status"), &status)
        .await
        .json();
    assert_eq!(
        (&status["status"], &status["spec"]["size"]),
        (&json!({"size": 1, "selector": "app=a"}), &json!(2))
    );
    let scale = server.get(&format!("{WIDGETS}/a/scale")).await.json();
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (
            &json!({"replicas": 2}),
            &json!({"replicas": 1, "selector": "app=a"})
        )
    );
    server
        .merge(
            &format!("{WIDGETS}/a/scale"),
            &json!({"spec": {"replicas": 5}}),
        )
        .await;
    assert_eq!(
        server.get(&format!("{WIDGETS}/a")).await.json()["spec"]["size"],
        5
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_schema_and_the_rules_do_not_allow_is_refused() {
    let server = server().await;
    server.post(WIDGETS, &widget("a", json!({"size": 2}))).await;
    let mut told = Vec::new();
    for spec in [
        json!({"size": "2", "color": "blue", "port": true, "parts": [{"name": "x"}, {"name": "x"}, {}]}),
        json!({"size": 20}),
        json!({}),
    ] {
        let answer = server.post(WIDGETS, &widget("b", spec)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        told.push(answer.json()["message"].as_str().unwrap().to_owned());
    }
    let color = server
        .merge(
            &format!("{WIDGETS}/a"),
            &json!({"spec": {"color": "green"}}),
        )
        .await;
    told.push(color.json()["message"].as_str().unwrap().to_owned());
    expect![[r#"
        Widget.example.com "b" is invalid: [spec.color: Unsupported value: "blue": supported values: "red", "green", spec.parts[2].name: Required value, spec.parts[1]: Duplicate value: "{\"name\":\"x\"}", spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean", spec.size: Invalid value: "string": spec.size in body must be of type integer: "string", .spec.size: Invalid value: 0: .spec.size accessor error: 2 is of the type string, expected int64]
        Widget.example.com "b" is invalid: spec: Invalid value: "object": size must not be above most
        Widget.example.com "b" is invalid: spec.size: Required value
        Widget.example.com "a" is invalid: spec: Forbidden: color is immutable"#]].assert_eq(&told.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn appliers_merge_lists_by_the_keys_of_the_schema() {
    let server = server().await;
    let parts = |names: &[&str]| {
        let parts: Vec<Value> = names
            .iter()
            .map(|n| json!({"name": n, "value": n}))
            .collect();
        widget("a", json!({"size": 2, "parts": parts}))
    };
    server
        .apply(&format!("{WIDGETS}/a?fieldManager=one"), &parts(&["x"]))
        .await;
    let both = server
        .apply(&format!("{WIDGETS}/a?fieldManager=two"), &parts(&["y"]))
        .await;
    assert_eq!(
        both.json()["spec"]["parts"].as_array().unwrap().len(),
        2,
        "{}",
        both.json()
    );
    let strategic = server
        .send(
            Method::PATCH,
            &format!("{WIDGETS}/a"),
            "application/strategic-merge-patch+json",
            "{}".into(),
        )
        .await;
    assert_eq!(strategic.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test(start_paused = true)]
async fn discovery_and_documents_tell_of_it() {
    let server = server().await;
    let group = server.get("/apis/example.com").await.json();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    let resources = server.get("/apis/example.com/v1").await.json();
    let first = &resources["resources"][0];
    assert_eq!(
        (&first["shortNames"], &first["categories"]),
        (&json!(["wd"]), &json!(["all"]))
    );
    let before = server.get("/openapi/v3").await.json()["paths"]["apis/example.com/v1"].clone();
    let document = server
        .get(before["serverRelativeURL"].as_str().unwrap())
        .await
        .json();
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    let size = &schema["properties"]["spec"]["properties"]["size"];
    assert_eq!(size["description"], "How large it is.");
    let mut changed = definition();
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = json!("another");
    server
        .apply(
            &format!("{DEFINITIONS}/widgets.example.com?fieldManager=t&force=true"),
            &changed,
        )
        .await;
    let after = server.get("/openapi/v3").await.json()["paths"]["apis/example.com/v1"].clone();
    assert_ne!(
        before, after,
        "a document that has changed has another address"
    );
}

#[tokio::test(start_paused = true)]
async fn a_definition_takes_its_objects_with_it() {
    let server = server().await;
    let mut held = widget("held", json!({"size": 2}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(WIDGETS, &held).await;
    server.post(WIDGETS, &widget("a", json!({"size": 2}))).await;
    let one = format!("{DEFINITIONS}/widgets.example.com");
    server
        .send(Method::DELETE, &one, "application/json", String::new())
        .await;
    eventually("the end of a", || async {
        server.get(&format!("{WIDGETS}/a")).await.status == StatusCode::NOT_FOUND
    })
    .await;
    let ending = server.get(&one).await.json();
    assert_eq!(ending["status"]["conditions"][2]["type"], "Terminating");
    let late = server
        .post(WIDGETS, &widget("late", json!({"size": 2})))
        .await;
    assert_eq!(late.status, StatusCode::METHOD_NOT_ALLOWED);
    server
        .merge(
            &format!("{WIDGETS}/held"),
            &json!({"metadata": {"finalizers": null}}),
        )
        .await;
    eventually("the end of the definition", || async {
        server.get(&one).await.status == StatusCode::NOT_FOUND
    })
    .await;
    assert_eq!(server.get(WIDGETS).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn names_that_are_taken_become_free_with_their_definition() {
    let server = server().await;
    let mut other = definition();
    other["metadata"]["name"] = json!("gadgets.example.com");
    other["spec"]["names"] = json!({"plural": "gadgets", "singular": "gadget", "kind": "Widget", "listKind": "GadgetList"});
    let made = server.post(DEFINITIONS, &other).await.json();
    let accepted = &made["status"]["conditions"][0];
    assert_eq!(
        (&accepted["status"], &accepted["reason"]),
        (&json!("False"), &json!("KindConflict"))
    );
    let gadgets = "/apis/example.com/v1/namespaces/default/gadgets";
    assert_eq!(server.get(gadgets).await.status, StatusCode::NOT_FOUND);
    let one = format!("{DEFINITIONS}/widgets.example.com");
    server
        .send(Method::DELETE, &one, "application/json", String::new())
        .await;
    eventually("the kind whose name is free", || async {
        server.get(gadgets).await.status == StatusCode::OK
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_definition_is_refused_with_the_places() {
    let server = Raw::new();
    let mut broken = definition();
    broken["metadata"]["name"] = json!("widget.example.com");
    let version = &mut broken["spec"]["versions"][0];
    version["storage"] = json!(false);
    version["schema"]["openAPIV3Schema"] = json!({"type": "object", "properties": {
        "a": {"type": "int"}, "b": {}, "c": {"type": "array"}, "d": {"type": "string", "pattern": "("},
        "e": {"type": "object", "additionalProperties": false}, "f": {"type": "integer", "default": "x"},
        "g": {"type": "object", "x-kubernetes-validations": [{"rule": "self.x ==", "message": "m"}]},
        "h": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}},
        "i": {"$ref": "#/x", "type": "string"}, "j": {"type": "array", "uniqueItems": true, "items": {"type": "string"}}}});
    version["subresources"]["scale"]["specReplicasPath"] = json!("spec.size");
    version["additionalPrinterColumns"][0] =
        json!({"name": "x", "type": "text", "jsonPath": "spec"});
    let answer = server.post(DEFINITIONS, &broken).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let status = answer.json();
    let causes = status["details"]["causes"].as_array().unwrap().iter();
    let told: Vec<_> = causes
        .map(|c| format!("{}: {}", c["field"], c["message"]).replace('"', ""))
        .collect();
    expect![[r#"
        metadata.name: Invalid value: \widget.example.com\: must be spec.names.plural+\.\+spec.group
        spec.versions: Invalid value: 0 of them: must have exactly one version marked as storage version
        spec.versions[0].schema.openAPIV3Schema.properties[a].type: Unsupported value: \int\: supported values: \array\, \boolean\, \integer\, \number\, \object\, \string\
        spec.versions[0].schema.openAPIV3Schema.properties[b].type: Required value: must not be empty for specified object fields
        spec.versions[0].schema.openAPIV3Schema.properties[c].items: Required value: must be specified
        spec.versions[0].schema.openAPIV3Schema.properties[d].pattern: Invalid value: \(\: must be a valid regular expression, but isn't: error: unclosed group
        spec.versions[0].schema.openAPIV3Schema.properties[e].additionalProperties: Forbidden: additionalProperties cannot be set to false
        spec.versions[0].schema.openAPIV3Schema.properties[f].default: Invalid value: \string\: spec.versions[0].schema.openAPIV3Schema.properties[f].default in body must be of type integer: \string\
        spec.versions[0].schema.openAPIV3Schema.properties[h].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map
        spec.versions[0].schema.openAPIV3Schema.properties[i].$ref: Forbidden: $ref is not supported
        spec.versions[0].schema.openAPIV3Schema.properties[j].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic
        spec.versions[0].schema.openAPIV3Schema.properties[g].x-kubernetes-validations[0].rule: Invalid value: \self.x ==\: compilation failed: failed to compile CEL rule \self.x ==\: ERROR: <input>:1:10: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER} | self.x == | .........^
        spec.versions[0].additionalPrinterColumns[0].type: Unsupported value: \text\: supported values: \boolean\, \date\, \integer\, \number\, \string\
        spec.versions[0].additionalPrinterColumns[0].jsonPath: Invalid value: \spec\: must be a JSON path such as .spec.size or .status.conditions[?(@.type==\Ready\)].status
        spec.versions[0].subresources.scale.specReplicasPath: Invalid value: \spec.size\: should be a json path under .spec"#]].assert_eq(&told.join("\n"));
}

/// A cluster does not have our kinds until it gets these definitions; here they are tried under another group.
#[tokio::test(start_paused = true)]
async fn the_definitions_of_our_own_kinds_can_be_installed() {
    let server = Raw::new();
    for mut definition in serin_api::crd::definitions() {
        let plural = definition["spec"]["names"]["plural"].as_str().unwrap();
        let name = format!("{plural}.example.com");
        definition["metadata"]["name"] = json!(name);
        definition["spec"]["group"] = json!("example.com");
        let made = server.post(DEFINITIONS, &definition).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.json());
        assert!(made.warnings().is_empty(), "{:?}", made.warnings());
    }
    let rollouts = "/apis/example.com/v1alpha1/namespaces/default/rollouts";
    let rollout = |step: &str| {
        json!({"apiVersion": "example.com/v1alpha1", "kind": "Rollout", "metadata": {"name": "shop"}, "spec": {
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "shop", "image": "shop:v1"}]}},
            "strategy": {"canary": {"maxSurge": "25%", "steps": [{step: 20}, {"pause": {"duration": "1h"}}]}}}})
    };
    let strict = format!("{rollouts}?fieldValidation=Strict");
    let wrong = server.post(&strict, &rollout("setWeihgt")).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{}", wrong.json());
    let made = server.post(&strict, &rollout("setWeight")).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.json());
    let template = &made.json()["spec"]["template"];
    assert_eq!(template["spec"]["containers"][0]["image"], "shop:v1");
}
