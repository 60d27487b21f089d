use serde_json::{Value, json};

use super::*;
use crate::access::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, roles};
use crate::store::{Draft, Key};

fn record(plural: &str, namespace: &str, mut object: Value) -> Arc<Record> {
    let name = crate::meta::text(&object, "name").to_owned();
    object["metadata"] = json!({"name": name});
    Arc::new(Draft::new(&object).seal(Key::new(RBAC, plural, namespace, &name), 1))
}

fn policy(own: impl IntoIterator<Item = Arc<Record>>) -> Policy {
    let defaults = roles::defaults().into_iter().map(|role| {
        let plural = match role["kind"].as_str() {
            Some("ClusterRole") => "clusterroles",
            _ => "clusterrolebindings",
        };
        record(plural, "", role)
    });
    let all: Vec<_> = defaults.chain(own).collect();
    Policy::of(&all)
}

fn bound(namespace: &str, role: Value, subject: Value) -> Arc<Record> {
    let plural = if namespace.is_empty() {
        "clusterrolebindings"
    } else {
        "rolebindings"
    };
    let name = format!("{}-{}", role["name"], subject["name"]);
    record(
        plural,
        namespace,
        json!({"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}),
    )
}

fn cluster_role(name: &str) -> Value {
    json!({"kind": "ClusterRole", "name": name})
}

fn user(name: &str) -> User {
    let standing = if name == ANONYMOUS {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    User {
        name: name.into(),
        groups: vec![standing.into()],
        ..User::default()
    }
}

/// `verb group resource[/part] [name] [in namespace]`, or `verb /url`.
fn asked(text: &str) -> Attributes {
    let (text, namespace) = text.split_once(" in ").unwrap_or((text, ""));
    match text.split(' ').collect::<Vec<_>>()[..] {
        [verb, url] => Attributes {
            verb: verb.into(),
            asked: Asked::Url(url.into()),
        },
        [verb, group, resource] => Attributes::on(verb, group, "", "")
            .part_of(resource)
            .within(namespace),
        [verb, group, resource, name] => Attributes::on(verb, group, "", name)
            .part_of(resource)
            .within(namespace),
        _ => panic!("{text}"),
    }
    .core()
}

impl Attributes {
    /// `-` stands for the core group.
    fn core(mut self) -> Self {
        if let Asked::Resource { group, .. } = &mut self.asked
            && group == "-"
        {
            group.clear();
        }
        self
    }
}

fn check(policy: &Policy, user: &User, table: &[(&str, bool)]) {
    for (text, want) in table {
        assert_eq!(
            policy.allows(user, &asked(text)),
            *want,
            "{}: {text}",
            user.name
        );
    }
}

#[test]
fn who_is_bound_to_nothing_may_find_out_what_there_is_and_who_they_are() {
    check(
        &policy([]),
        &user("nobody"),
        &[
            ("get /api", true),
            ("get /apis/apps/v1", true),
            ("get /openapi/v3/api/v1", true),
            ("get /version", true),
            ("create authorization.k8s.io selfsubjectaccessreviews", true),
            ("create authentication.k8s.io selfsubjectreviews", true),
            ("get /backup", false),
            ("post /api", false),
            ("create authorization.k8s.io subjectaccessreviews", false),
            ("create authentication.k8s.io tokenreviews", false),
            ("list - pods in default", false),
            ("list - namespaces", false),
        ],
    );
    check(
        &policy([]),
        &user(ANONYMOUS),
        &[
            ("get /healthz", true),
            ("get /livez", true),
            ("get /readyz", true),
            ("get /version", true),
            ("get /api", false),
            ("get /backup", false),
            ("create authentication.k8s.io selfsubjectreviews", false),
        ],
    );
}

#[test]
fn the_roles_of_people() {
    let of = |role: &str| {
        let jane = json!({"kind": "User", "name": "jane"});
        policy([bound("shop", cluster_role(role), jane)])
    };
    let table = [
        ("list - pods in shop", [true, true, true]),
        ("get - pods/log web in shop", [true, true, true]),
        ("watch argoproj.io rollouts in shop", [true, true, true]),
        ("get - namespaces shop in shop", [true, true, true]),
        ("get - secrets key in shop", [false, true, true]),
        ("patch apps deployments web in shop", [false, true, true]),
        (
            "patch argoproj.io rollouts web in shop",
            [false, true, true],
        ),
        ("create - pods/exec web in shop", [false, true, true]),
        (
            "create - serviceaccounts/token default in shop",
            [false, true, true],
        ),
        (
            "create rbac.authorization.k8s.io rolebindings in shop",
            [false, false, true],
        ),
        (
            "get rbac.authorization.k8s.io roles x in shop",
            [false, false, true],
        ),
        (
            "bind rbac.authorization.k8s.io clusterroles cluster-admin in shop",
            [false, false, false],
        ),
        (
            "patch argoproj.io clusteranalysistemplates x",
            [false, false, false],
        ),
        ("list - pods in default", [false, false, false]),
        ("list - pods", [false, false, false]),
        ("list - nodes", [false, false, false]),
        ("get /backup", [false, false, false]),
    ];
    for (text, want) in table {
        for (role, want) in ["view", "edit", "admin"].into_iter().zip(want) {
            assert_eq!(
                of(role).allows(&user("jane"), &asked(text)),
                want,
                "{role}: {text}"
            );
        }
        assert!(
            !of("admin").allows(&user("joe"), &asked(text)),
            "joe: {text}"
        );
    }
}

#[test]
fn every_kind_of_a_namespace_but_secrets_and_rights_can_be_viewed() {
    let jane = json!({"kind": "User", "name": "jane"});
    let policy = policy([
        bound("shop", cluster_role("view"), jane.clone()),
        bound(
            "shop",
            cluster_role("edit"),
            json!({"kind": "User", "name": "ed"}),
        ),
    ]);
    for kind in serin_api::kinds::all().iter().filter(|k| k.namespaced) {
        let on = |verb| Attributes::on(verb, kind.group, kind.plural, "").within("shop");
        let hidden = matches!(kind.kind, "Secret" | "Lease") || kind.group == RBAC;
        assert_eq!(
            policy.allows(&user("jane"), &on("list")),
            !hidden,
            "{}",
            kind.kind
        );
        assert!(
            !policy.allows(&user("jane"), &on("create")),
            "{}",
            kind.kind
        );
        let derived = kind.kind == "EndpointSlice" || kind.group == RBAC;
        assert_eq!(
            policy.allows(&user("ed"), &on("create")),
            !derived,
            "{}",
            kind.kind
        );
    }
}

#[test]
fn a_cluster_binding_is_good_everywhere_and_a_role_in_its_namespace() {
    let pods = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["web"]}]);
    let role = record(
        "roles",
        "shop",
        json!({"metadata": {"name": "one-pod"}, "rules": pods}),
    );
    let account = json!({"kind": "ServiceAccount", "namespace": "ci", "name": "builder"});
    let policy = policy([
        role,
        bound("shop", json!({"kind": "Role", "name": "one-pod"}), account),
        bound(
            "",
            cluster_role("view"),
            json!({"kind": "Group", "name": "readers"}),
        ),
    ]);
    let builder = User::service_account("ci", "builder", "u");
    check(
        &policy,
        &builder,
        &[
            ("get - pods web in shop", true),
            ("get - pods other in shop", false),
            ("get - pods web in default", false),
            ("list - pods in shop", false),
        ],
    );
    check(
        &policy,
        &user("system:serviceaccount:ci:builder"),
        &[("get - pods web in shop", true)],
    );
    check(
        &policy,
        &user("system:serviceaccount:ci:builder:x"),
        &[("get - pods web in shop", false)],
    );
    let mut reader = user("rita");
    reader.groups.push("readers".into());
    check(
        &policy,
        &reader,
        &[
            ("list - pods", true),
            ("list - pods in any", true),
            ("list - secrets in any", false),
        ],
    );
}

#[test]
fn a_binding_to_a_role_that_is_gone_gives_nothing_and_says_so() {
    let jane = json!({"kind": "User", "name": "jane"});
    let policy = policy([bound("shop", cluster_role("lost"), jane)]);
    let decision = policy.decide(&user("jane"), &asked("list - pods in shop"));
    let why = r#"RBAC: clusterrole.rbac.authorization.k8s.io "lost" not found"#;
    assert_eq!(decision, Decision::Denied { why: why.into() });
}

#[test]
fn a_broken_object_gives_nothing_and_harms_no_other() {
    let jane = json!({"kind": "User", "name": "jane"});
    let broken = json!({"metadata": {"name": "broken"}, "roleRef": 7, "subjects": "all"});
    let policy = policy([
        record("rolebindings", "shop", broken),
        bound("shop", cluster_role("view"), jane),
    ]);
    check(
        &policy,
        &user("jane"),
        &[
            ("list - pods in shop", true),
            ("list - secrets in shop", false),
        ],
    );
}

#[test]
fn whoever_is_a_master_needs_no_object() {
    let policy = Policy::of(&[]);
    let master = User::of_the_system("x");
    check(
        &policy,
        &master,
        &[("get /backup", true), ("delete - nodes a", true)],
    );
    check(&policy, &user("jane"), &[("get /healthz", false)]);
}
