//! What cannot be read keeps the rules that it last had.

use super::*;

const ROUTES: &str = "
{kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}
---
{kind: HTTPRoute, metadata: {name: a}, spec: {hostnames: [a.example], rules: [{backendRefs: [{name: web, port: 80}]}]}}
---
{kind: HTTPRoute, metadata: {name: b}, spec: {hostnames: [b.example], rules: [{backendRefs: [{name: web, port: 80}]}]}}
";

/// The names of the routes that still have rules when this is left of the objects.
fn kept(left: impl FnOnce(&mut Objects)) -> String {
    let mut objects = objects(ROUTES);
    let options = LowerOptions::default();
    let before = lower(&objects, &RouteTable::default(), &options).table;
    left(&mut objects);
    let after = lower(&objects, &before, &options).table;
    let names = after.rules.iter().map(|rule| &*rule.source.name.name);
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_gone_has_no_rules_and_what_cannot_be_read_keeps_them() {
    let name = |name| ObjectName::new("default", name);
    let source = |of| Source {
        kind: SourceKind::HttpRoute,
        name: name(of),
    };
    assert_eq!(kept(|o| drop(o.routes.remove(&name("b")))), "a");
    let of_one = kept(|o| {
        o.routes.clear();
        o.unreadable.insert(source("b"));
    });
    assert_eq!(of_one, "b");
    let of_kind = kept(|o| {
        o.routes.clear();
        o.unread.insert(SourceKind::HttpRoute);
    });
    assert_eq!(of_kind, "a b");
}
