//! The environment, command and arguments of a container: `$(NAME)` references and the order in which values win.
//!
//! Pure: ConfigMaps and Secrets come in as [`Sources`], fetched by whoever starts the container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVar, Pod, Secret};
use thiserror::Error;

/// Variables of the node's own environment that a container sees; everything else is left out.
pub(crate) const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// The objects that an environment refers to, by name; those that do not exist are missing.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    /// Of the pod's namespace.
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    /// Of the pod's namespace.
    pub(crate) secrets: BTreeMap<String, Secret>,
}

/// Where a container will run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The pod's own address.
    pub(crate) pod_ip: &'a str,
    /// The address of the machine.
    pub(crate) host_ip: &'a str,
    /// The name of the node.
    pub(crate) node: &'a str,
}

/// The names of ConfigMaps and Secrets that a container's environment refers to.
pub(crate) fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let mut config_maps = Vec::new();
    let mut secrets = Vec::new();
    for source in container.env_from.iter().flatten() {
        config_maps.extend(source.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|e| e.value_from.as_ref())
    {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    (config_maps, secrets)
}

/// Why an environment cannot be made. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("env {variable}: {why}")]
pub(crate) struct EnvError {
    variable: String,
    why: String,
}

/// The environment of a container. A later source wins: what the node passes on, what it knows of the pod, `extra` (of the
/// bundle), `envFrom`, `env`.
pub(crate) fn assemble(
    pod: &Pod,
    container: &Container,
    place: Place<'_>,
    passed_on: &[(String, String)],
    extra: &[(String, String)],
    sources: &Sources,
) -> Result<BTreeMap<String, String>, EnvError> {
    let mut env: BTreeMap<String, String> = passed_on.iter().cloned().collect();
    env.extend(of_pod(pod, container, place));
    env.extend(extra.iter().cloned());
    for source in container.env_from.iter().flatten() {
        env.extend(from_source(source, sources)?);
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(variable, pod, place, &env, sources)? {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

/// What every container is told of its pod.
fn of_pod(pod: &Pod, container: &Container, place: Place<'_>) -> Vec<(String, String)> {
    let meta = &pod.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut env = vec![
        ("HOSTNAME".to_owned(), name.clone()),
        ("POD_NAME".to_owned(), name),
        (
            "POD_NAMESPACE".to_owned(),
            meta.namespace.clone().unwrap_or_default(),
        ),
        ("POD_UID".to_owned(), meta.uid.clone().unwrap_or_default()),
        ("POD_IP".to_owned(), place.pod_ip.to_owned()),
        ("CONTAINER_NAME".to_owned(), container.name.clone()),
    ];
    let ports = container.ports.as_deref().unwrap_or_default();
    if let Some(first) = ports.first() {
        env.push(("PORT".to_owned(), first.container_port.to_string()));
    }
    for port in ports {
        if let Some(name) = &port.name {
            let name = name.to_uppercase().replace('-', "_");
            env.push((format!("PORT_{name}"), port.container_port.to_string()));
        }
    }
    env
}

fn from_source(
    source: &EnvFromSource,
    sources: &Sources,
) -> Result<Vec<(String, String)>, EnvError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    if let Some(reference) = &source.config_map_ref {
        match sources.config_maps.get(&reference.name) {
            Some(map) => found.extend(map.data.clone().unwrap_or_default()),
            None if reference.optional == Some(true) => {}
            None => return Err(missing("envFrom", "ConfigMap", &reference.name)),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match sources.secrets.get(&reference.name) {
            Some(secret) => {
                for (key, value) in secret.data.iter().flatten() {
                    found.push((
                        key.clone(),
                        text("envFrom", &reference.name, key, &value.0)?,
                    ));
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(missing("envFrom", "Secret", &reference.name)),
        }
    }
    Ok(found
        .into_iter()
        .map(|(key, value)| (format!("{prefix}{key}"), value))
        .collect())
}

/// `None`: an optional source that is not there leaves the variable out.
fn value_of(
    variable: &EnvVar,
    pod: &Pod,
    place: Place<'_>,
    env: &BTreeMap<String, String>,
    sources: &Sources,
) -> Result<Option<String>, EnvError> {
    let name = variable.name.as_str();
    let Some(from) = &variable.value_from else {
        return Ok(Some(expand(
            variable.value.as_deref().unwrap_or_default(),
            env,
        )));
    };
    if let Some(field) = &from.field_ref {
        return field_of(pod, place, &field.field_path)
            .map(Some)
            .ok_or_else(|| EnvError {
                variable: name.to_owned(),
                why: format!("fieldRef {} is not supported", field.field_path),
            });
    }
    if let Some(key) = &from.config_map_key_ref {
        let value = sources.config_maps.get(&key.name).map(|map| {
            map.data
                .as_ref()
                .and_then(|data| data.get(&key.key))
                .cloned()
        });
        return found(name, "ConfigMap", &key.name, &key.key, key.optional, value);
    }
    if let Some(key) = &from.secret_key_ref {
        let value = match sources.secrets.get(&key.name) {
            Some(secret) => match secret.data.as_ref().and_then(|data| data.get(&key.key)) {
                Some(bytes) => Some(Some(text(name, &key.name, &key.key, &bytes.0)?)),
                None => Some(None),
            },
            None => None,
        };
        return found(name, "Secret", &key.name, &key.key, key.optional, value);
    }
    Err(EnvError {
        variable: name.to_owned(),
        why: "valueFrom supports fieldRef, configMapKeyRef and secretKeyRef".into(),
    })
}

/// `value`: `None` when the object is missing, `Some(None)` when only its key is.
fn found(
    variable: &str,
    kind: &str,
    object: &str,
    key: &str,
    optional: Option<bool>,
    value: Option<Option<String>>,
) -> Result<Option<String>, EnvError> {
    match value {
        Some(Some(value)) => Ok(Some(value)),
        _ if optional == Some(true) => Ok(None),
        Some(None) => Err(EnvError {
            variable: variable.to_owned(),
            why: format!("{kind} {object} has no key {key}"),
        }),
        None => Err(missing(variable, kind, object)),
    }
}

fn missing(variable: &str, kind: &str, object: &str) -> EnvError {
    EnvError {
        variable: variable.to_owned(),
        why: format!("{kind} {object} not found in the namespace of the pod"),
    }
}

fn text(variable: &str, object: &str, key: &str, bytes: &[u8]) -> Result<String, EnvError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| EnvError {
        variable: variable.to_owned(),
        why: format!("key {key} of Secret {object} is not UTF-8 text"),
    })
}

fn field_of(pod: &Pod, place: Place<'_>, path: &str) -> Option<String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    if let Some(rest) = path.strip_prefix("metadata.labels[") {
        let labels = meta.labels.as_ref();
        return Some(
            labels
                .and_then(|l| l.get(quoted(rest)?))
                .cloned()
                .unwrap_or_default(),
        );
    }
    if let Some(rest) = path.strip_prefix("metadata.annotations[") {
        let annotations = meta.annotations.as_ref();
        return Some(
            annotations
                .and_then(|a| a.get(quoted(rest)?))
                .cloned()
                .unwrap_or_default(),
        );
    }
    match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "spec.nodeName" => Some(place.node.to_owned()),
        "spec.serviceAccountName" => Some(
            spec.and_then(|s| s.service_account_name.clone())
                .unwrap_or_default(),
        ),
        "status.podIP" | "status.podIPs" => Some(place.pod_ip.to_owned()),
        "status.hostIP" | "status.hostIPs" => Some(place.host_ip.to_owned()),
        _ => None,
    }
}

/// The key in `'KEY']`.
fn quoted(rest: &str) -> Option<&str> {
    let inner = rest.strip_suffix(']')?;
    inner
        .strip_prefix('\'')
        .and_then(|k| k.strip_suffix('\''))
        .or_else(|| inner.strip_prefix('"').and_then(|k| k.strip_suffix('"')))
}

/// Replaces `$(NAME)` by its value. `$$` is one `$`; a name that is unknown, and anything that is no reference, stays.
pub(crate) fn expand(input: &str, env: &BTreeMap<String, String>) -> String {
    let mut output = String::with_capacity(input.len());
    let mut rest = input;
    while let Some((before, after)) = rest.split_once('$') {
        output.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            output.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|a| a.split_once(')'))
        {
            match env.get(name) {
                Some(value) => output.push_str(value),
                None => output.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            output.push('$');
            rest = after;
        }
    }
    output.push_str(rest);
    output
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    #[test]
    fn references_expand_as_in_kubernetes() {
        let env = map(&[("A", "1"), ("B", "$(A)"), ("", "empty")]);
        for (input, want) in [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("a$(A)b$(B)c", "a1b$(A)c"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$$", "$"),
            ("$()", "empty"),
            ("$é$(A)", "$é1"),
            ("$($(A))", "$($(A))"),
        ] {
            assert_eq!(expand(input, &env), want, "{input}");
        }
    }

    fn pod(text: &str) -> Pod {
        serde_json::from_str(text).unwrap()
    }

    fn assembled(pod: &Pod, sources: &Sources) -> Result<String, EnvError> {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let place = Place {
            pod_ip: "127.64.0.1",
            host_ip: "127.0.0.1",
            node: "local",
        };
        let passed = [("PATH".to_owned(), "/bin".to_owned())];
        let extra = [("VERSION".to_owned(), "v1".to_owned())];
        assemble(pod, container, place, &passed, &extra, sources)
            .map(|env| env.iter().map(|(k, v)| format!("{k}={v}\n")).collect())
    }

    #[test]
    fn later_sources_win_and_references_see_what_is_before_them() {
        let pod = pod(
            r#"{"metadata":{"name":"web-1","namespace":"shop","uid":"u1","labels":{"app":"web"},"annotations":{"a/b":"c"}},
            "spec":{"containers":[{"name":"web","ports":[{"containerPort":8080,"name":"http-main"},{"containerPort":9090}],
              "envFrom":[{"prefix":"C_","configMapRef":{"name":"conf"}},{"secretRef":{"name":"none","optional":true}}],
              "env":[{"name":"URL","value":"http://$(POD_IP):$(PORT)/$(C_path)$(LATER)"},{"name":"LATER","value":"x"},
                {"name":"VERSION","value":"mine"},
                {"name":"APP","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['app']"}}},
                {"name":"NOTE","valueFrom":{"fieldRef":{"fieldPath":"metadata.annotations['a/b']"}}},
                {"name":"NODE","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}},
                {"name":"KEY","valueFrom":{"secretKeyRef":{"name":"sec","key":"k"}}},
                {"name":"LEFT_OUT","valueFrom":{"configMapKeyRef":{"name":"conf","key":"no","optional":true}}}]}]}}"#,
        );
        let sources = Sources {
            config_maps: [(
                "conf".into(),
                serde_json::from_str(r#"{"data":{"path":"p"}}"#).unwrap(),
            )]
            .into(),
            secrets: [(
                "sec".into(),
                serde_json::from_str(r#"{"data":{"k":"czNjcjN0"}}"#).unwrap(),
            )]
            .into(),
        };
        expect![[r#"
            APP=web
            CONTAINER_NAME=web
            C_path=p
            HOSTNAME=web-1
            KEY=s3cr3t
            LATER=x
            NODE=local
            NOTE=c
            PATH=/bin
            POD_IP=127.64.0.1
            POD_NAME=web-1
            POD_NAMESPACE=shop
            POD_UID=u1
            PORT=8080
            PORT_HTTP_MAIN=8080
            URL=http://127.64.0.1:8080/p$(LATER)
            VERSION=mine
        "#]]
        .assert_eq(&assembled(&pod, &sources).unwrap());
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |env: &str| {
            let pod = pod(&format!(
                r#"{{"metadata":{{}},"spec":{{"containers":[{{"name":"c",{env}}}]}}}}"#
            ));
            assembled(&pod, &Sources::default())
                .unwrap_err()
                .to_string()
        };
        let errors = [
            error(r#""envFrom":[{"configMapRef":{"name":"conf"}}]"#),
            error(r#""env":[{"name":"K","valueFrom":{"secretKeyRef":{"name":"sec","key":"k"}}}]"#),
            error(r#""env":[{"name":"K","valueFrom":{"fieldRef":{"fieldPath":"status.phase"}}}]"#),
            error(
                r#""env":[{"name":"K","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}}]"#,
            ),
        ];
        expect![[r#"
            env envFrom: ConfigMap conf not found in the namespace of the pod
            env K: Secret sec not found in the namespace of the pod
            env K: fieldRef status.phase is not supported
            env K: valueFrom supports fieldRef, configMapKeyRef and secretKeyRef"#]]
        .assert_eq(&errors.join("\n"));
    }
}
