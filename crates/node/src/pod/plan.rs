//! What a Pod asks for, read once from its spec: defaults filled in, names of ports resolved.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, Pod, Probe,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustix::process::Signal;

use super::probe::{Check, ProbeKind, ProbePlan};
use crate::config::Backoff;

/// The grace period of a pod that names none.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// When a container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// However it ended.
    Always,
    /// When it failed.
    OnFailure,
    /// Not at all.
    Never,
}

/// Where a container stands in the order of starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// Starts in the order of the init containers and stays.
    Sidecar,
    /// Starts once all of the above are done or running.
    Main,
}

/// What a pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodPlan {
    /// Init containers first, in order.
    pub(crate) containers: Vec<ContainerPlan>,
    /// For the end of the pod.
    pub(crate) grace: Duration,
    /// Whether a gateway is there that says when no request is in flight any more.
    pub(crate) drain: bool,
    /// Conditions that others must set before the pod is ready.
    pub(crate) readiness_gates: Vec<String>,
    /// How soon a container is started again.
    pub(crate) backoff: Backoff,
}

/// What a container asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerPlan {
    /// Its name.
    pub(crate) name: String,
    /// Its image.
    pub(crate) image: String,
    /// Its place in the order.
    pub(crate) role: Role,
    /// When it is started again.
    pub(crate) restart: Restart,
    /// At most one of each kind.
    pub(crate) probes: Vec<ProbePlan>,
    /// Done once it runs; it is not ready before.
    pub(crate) post_start: Option<Check>,
    /// Done before the signal.
    pub(crate) pre_stop: Option<Check>,
    /// The number of the signal that asks it to end.
    pub(crate) stop_signal: i32,
}

impl PodPlan {
    /// Reads a pod.
    pub(crate) fn of(pod: &Pod, drain: bool, backoff: Backoff) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let of_pod = match spec.restart_policy.as_deref() {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        };
        let init = spec.init_containers.iter().flatten().map(|container| {
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            match (sidecar, of_pod) {
                (true, _) => ContainerPlan::of(container, Role::Sidecar, Restart::Always),
                (false, Restart::Never) => ContainerPlan::of(container, Role::Init, Restart::Never),
                (false, _) => ContainerPlan::of(container, Role::Init, Restart::OnFailure),
            }
        });
        let main = spec.containers.iter();
        Self {
            containers: init
                .chain(main.map(|c| ContainerPlan::of(c, Role::Main, of_pod)))
                .collect(),
            grace: spec
                .termination_grace_period_seconds
                .map_or(DEFAULT_GRACE, seconds_i64),
            drain,
            readiness_gates: spec
                .readiness_gates
                .into_iter()
                .flatten()
                .map(|gate| gate.condition_type)
                .collect(),
            backoff,
        }
    }
}

impl ContainerPlan {
    fn of(container: &Container, role: Role, restart: Restart) -> Self {
        let ports = container.ports.as_deref().unwrap_or_default();
        let lifecycle = container.lifecycle.clone().unwrap_or_default();
        // An init container is never asked for its health: it either ends or it does not.
        let probes = if role == Role::Init {
            Vec::new()
        } else {
            [
                (ProbeKind::Startup, &container.startup_probe),
                (ProbeKind::Liveness, &container.liveness_probe),
                (ProbeKind::Readiness, &container.readiness_probe),
            ]
            .into_iter()
            .filter_map(|(kind, probe)| Some(probe_of(kind, probe.as_ref()?, ports)))
            .collect()
        };
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            role,
            restart,
            probes,
            stop_signal: stop_signal(&lifecycle),
            post_start: lifecycle.post_start.map(|hook| hook_of(hook, ports)),
            pre_stop: lifecycle.pre_stop.map(|hook| hook_of(hook, ports)),
        }
    }
}

/// Fields of a pod that ask for something this node does not do; each as a sentence for an event.
pub(crate) fn unsupported(pod: &Pod) -> Vec<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut found = Vec::new();
    let all = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    for container in all {
        let name = &container.name;
        if container
            .volume_mounts
            .as_ref()
            .is_some_and(|m| !m.is_empty())
        {
            found.push(format!(
                "container {name}: volumeMounts are not carried out; use a path of the machine, or env"
            ));
        }
        let security = container.security_context.clone().unwrap_or_default();
        if security.run_as_user.is_some() || security.run_as_group.is_some() {
            found.push(format!(
                "container {name}: runAsUser and runAsGroup are not carried out; it runs as the user of serin up"
            ));
        }
        let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
        if limits.is_some_and(|limits| !limits.is_empty()) {
            found.push(format!(
                "container {name}: resources.limits are not enforced"
            ));
        }
        let probes = [
            ("startupProbe", &container.startup_probe),
            ("livenessProbe", &container.liveness_probe),
            ("readinessProbe", &container.readiness_probe),
        ];
        for (field, probe) in probes {
            let check = probe
                .as_ref()
                .map(|probe| check_of_probe(probe, container.ports.as_deref().unwrap_or_default()));
            if let Some(Check::Unsupported { why }) = check {
                found.push(format!("container {name}: {field}: {why}"));
            }
        }
    }
    found
}

fn probe_of(kind: ProbeKind, probe: &Probe, ports: &[ContainerPort]) -> ProbePlan {
    let count = |value: Option<i32>, default: u32| {
        value
            .and_then(|v| u32::try_from(v).ok())
            .filter(|v| *v > 0)
            .unwrap_or(default)
    };
    let seconds = |value, default| Duration::from_secs(u64::from(count(value, default)));
    ProbePlan {
        kind,
        check: check_of_probe(probe, ports),
        delay: seconds(probe.initial_delay_seconds, 0),
        period: seconds(probe.period_seconds, 10),
        timeout: seconds(probe.timeout_seconds, 1),
        successes: count(probe.success_threshold, 1),
        failures: count(probe.failure_threshold, 3),
        grace: probe.termination_grace_period_seconds.map(seconds_i64),
    }
}

fn check_of_probe(probe: &Probe, ports: &[ContainerPort]) -> Check {
    if probe.grpc.is_some() {
        return Check::Unsupported {
            why: "grpc probes are not supported; use httpGet, tcpSocket or exec".into(),
        };
    }
    action(
        probe.exec.as_ref(),
        probe.http_get.as_ref(),
        probe.tcp_socket.as_ref(),
        ports,
    )
}

fn hook_of(hook: LifecycleHandler, ports: &[ContainerPort]) -> Check {
    match hook.sleep {
        Some(sleep) => Check::Sleep {
            duration: seconds_i64(sleep.seconds),
        },
        None => action(
            hook.exec.as_ref(),
            hook.http_get.as_ref(),
            hook.tcp_socket.as_ref(),
            ports,
        ),
    }
}

fn action(
    exec: Option<&ExecAction>,
    http: Option<&HTTPGetAction>,
    tcp: Option<&TCPSocketAction>,
    ports: &[ContainerPort],
) -> Check {
    let unsupported = |why| Check::Unsupported { why };
    if let Some(exec) = exec {
        let argv = exec.command.clone().unwrap_or_default();
        return Check::Exec { argv };
    }
    if let Some(http) = http {
        if http
            .scheme
            .as_deref()
            .is_some_and(|s| !s.eq_ignore_ascii_case("http"))
        {
            return unsupported("httpGet supports scheme HTTP only".to_owned());
        }
        let headers = http.http_headers.iter().flatten();
        return match port_of(&http.port, ports) {
            Ok(port) => Check::Http {
                host: http.host.clone().filter(|h| !h.is_empty()),
                port,
                path: absolute(http.path.as_deref().unwrap_or_default()),
                headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
            },
            Err(why) => unsupported(why),
        };
    }
    if let Some(tcp) = tcp {
        return match port_of(&tcp.port, ports) {
            Ok(port) => Check::Tcp {
                host: tcp.host.clone().filter(|h| !h.is_empty()),
                port,
            },
            Err(why) => unsupported(why),
        };
    }
    unsupported("it names none of httpGet, tcpSocket and exec".to_owned())
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

fn port_of(port: &IntOrString, ports: &[ContainerPort]) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => ports
            .iter()
            .find(|p| p.name.as_deref() == Some(name))
            .map(|p| p.container_port)
            .or_else(|| name.parse().ok()),
    };
    let shown = match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => format!("{name:?}"),
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| {
            format!("port {shown} is neither a port number nor the name of a port of the container")
        })
}

/// `lifecycle.stopSignal`; SIGTERM when there is none or it is unknown.
fn stop_signal(lifecycle: &Lifecycle) -> i32 {
    let signal = match lifecycle.stop_signal.as_deref() {
        Some("SIGINT") => Signal::INT,
        Some("SIGQUIT") => Signal::QUIT,
        Some("SIGHUP") => Signal::HUP,
        Some("SIGUSR1") => Signal::USR1,
        Some("SIGUSR2") => Signal::USR2,
        Some("SIGWINCH") => Signal::WINCH,
        Some("SIGKILL") => Signal::KILL,
        _ => Signal::TERM,
    };
    signal.as_raw()
}

fn seconds_i64(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(spec: &str) -> PodPlan {
        let pod = serde_json::from_str(&format!(r#"{{"metadata":{{}},"spec":{spec}}}"#)).unwrap();
        PodPlan::of(&pod, true, Backoff::default())
    }

    #[test]
    fn defaults_are_those_of_kubernetes() {
        let plan = plan(
            r#"{"containers":[{"name":"a","image":"host","ports":[{"name":"http","containerPort":8080}],
                "readinessProbe":{"httpGet":{"port":"http"}}}]}"#,
        );
        assert_eq!(plan.grace, Duration::from_secs(30));
        let container = &plan.containers[0];
        assert_eq!(
            (container.role, container.restart),
            (Role::Main, Restart::Always)
        );
        assert_eq!(
            container.probes,
            [ProbePlan {
                kind: ProbeKind::Readiness,
                check: Check::Http {
                    host: None,
                    port: 8080,
                    path: "/".into(),
                    headers: Vec::new()
                },
                delay: Duration::ZERO,
                period: Duration::from_secs(10),
                timeout: Duration::from_secs(1),
                successes: 1,
                failures: 3,
                grace: None,
            }]
        );
    }

    #[test]
    fn init_containers_come_first_and_are_restarted_only_when_they_fail() {
        let plan = plan(
            r#"{"containers":[{"name":"a"}],"initContainers":[{"name":"i"},{"name":"s","restartPolicy":"Always"}]}"#,
        );
        let shown: Vec<_> = plan
            .containers
            .iter()
            .map(|c| (c.name.as_str(), c.role, c.restart))
            .collect();
        assert_eq!(
            shown,
            [
                ("i", Role::Init, Restart::OnFailure),
                ("s", Role::Sidecar, Restart::Always),
                ("a", Role::Main, Restart::Always)
            ]
        );
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let pod = serde_json::from_str(
            r#"{"metadata":{},"spec":{"containers":[{"name":"a","volumeMounts":[{"name":"v","mountPath":"/v"}],
                "securityContext":{"runAsUser":1},"resources":{"limits":{"cpu":"1"}},
                "livenessProbe":{"grpc":{"port":1}},"readinessProbe":{"tcpSocket":{"port":"nope"}}}]}}"#,
        )
        .unwrap();
        expect_test::expect![[r#"
            container a: volumeMounts are not carried out; use a path of the machine, or env
            container a: runAsUser and runAsGroup are not carried out; it runs as the user of serin up
            container a: resources.limits are not enforced
            container a: livenessProbe: grpc probes are not supported; use httpGet, tcpSocket or exec
            container a: readinessProbe: port "nope" is neither a port number nor the name of a port of the container"#]]
        .assert_eq(&unsupported(&pod).join("\n"));
    }
}
