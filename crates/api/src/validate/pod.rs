//! Pods and pod templates.

use std::collections::BTreeSet;

use super::field::{Field, unique};
use super::{metadata, names, probes, resources};
use crate::Problem;

/// Seconds between SIGTERM and SIGKILL when the pod does not say.
const DEFAULT_GRACE: i64 = 30;

pub(super) fn check(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec_field = root.get("spec");
    if spec_field.require("", out) {
        spec(&spec_field, out);
    }
}

/// The pod template of a workload, whose pods never end by themselves.
pub(super) fn template(template: &Field<'_>, out: &mut Vec<Problem>) {
    metadata::labels_and_annotations(&template.get("metadata"), out);
    let spec_field = template.get("spec");
    spec(&spec_field, out);
    spec_field.get("restartPolicy").one_of(&["Always"], out);
    let deadline = spec_field.get("activeDeadlineSeconds");
    if deadline.is_there() {
        out.push(deadline.forbidden("activeDeadlineSeconds in ReplicaSet is not Supported"));
    }
    ready_when(&spec_field, out);
}

/// The pod template of a Job, whose pods end.
pub(super) fn job_template(template: &Field<'_>, out: &mut Vec<Problem>) {
    metadata::labels_and_annotations(&template.get("metadata"), out);
    let spec_field = template.get("spec");
    spec(&spec_field, out);
    let restart = spec_field.get("restartPolicy");
    if matches!(restart.text(), None | Some("Always")) {
        let found = restart.text().unwrap_or("Always");
        let known = ["OnFailure", "Never"];
        out.push(Problem::not_supported(restart.path, found, &known));
    }
}

/// Without a readiness probe a program counts as ready as soon as it is started: users meet it too early.
fn ready_when(spec: &Field<'_>, out: &mut Vec<Problem>) {
    let containers: Vec<_> = spec.get("containers").items().collect();
    let serving = |c: &&Field<'_>| !c.get("ports").is_empty() || containers.len() == 1;
    for container in containers.iter().filter(serving) {
        let probe = container.get("readinessProbe");
        if container.map().is_some() && !probe.is_there() {
            out.push(probe.warning(
                "without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready",
            ));
        }
    }
}

fn spec(spec: &Field<'_>, out: &mut Vec<Problem>) {
    spec.get("restartPolicy")
        .one_of(&["Always", "OnFailure", "Never"], out);
    spec.get("dnsPolicy").one_of(
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        out,
    );
    let grace = spec.get("terminationGracePeriodSeconds");
    grace.not_negative(out);
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.integer().is_some_and(|n| n < 1) {
        out.push(deadline.invalid("must be between 1 and 2147483647, inclusive"));
    }
    if let Some(why) = spec
        .get("nodeName")
        .text()
        .filter(|t| !t.is_empty())
        .and_then(names::subdomain)
    {
        out.push(spec.get("nodeName").invalid(why));
    }
    let volumes: Vec<_> = spec.get("volumes").items().map(|v| v.get("name")).collect();
    for name in &volumes {
        name_of_part(name, out);
    }
    spec.get("volumes").items().for_each(|v| volume(&v, out));
    unique(volumes.iter().cloned(), out);
    let volumes = volumes.iter().filter_map(Field::text).collect();
    spec.get("containers").require("", out);
    let grace = grace.integer().unwrap_or(DEFAULT_GRACE);
    let containers = || {
        ["initContainers", "containers"]
            .into_iter()
            .flat_map(|list| spec.get(list).items())
    };
    for one in containers() {
        container(&one, grace, &volumes, out);
    }
    unique(containers().map(|c| c.get("name")), out);
    not_yet(spec, out);
}

/// Fields of the pod as a whole whose behaviour is not built.
fn not_yet(spec: &Field<'_>, out: &mut Vec<Problem>) {
    const ONE_NODE: &str = "there is one node, and every pod runs on it";
    const USER: &str = "programs run as the user of serin up";
    let fields = [
        ("nodeSelector", ONE_NODE),
        ("affinity", ONE_NODE),
        (
            "volumes",
            "use a path of the machine, or env with valueFrom",
        ),
        ("securityContext", USER),
        ("ephemeralContainers", "no container is added to a pod"),
    ];
    for (name, instead) in fields {
        spec.get(name).not_yet(instead, out);
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get(list).items() {
            container.get("volumeMounts").not_yet(
                "the program sees the files of the machine; use a path of the machine",
                out,
            );
            let limits = container.at("resources.limits");
            limits.not_yet("programs are not limited", out);
            container.get("securityContext").not_yet(USER, out);
        }
    }
}

fn container(container: &Field<'_>, grace: i64, volumes: &BTreeSet<&str>, out: &mut Vec<Problem>) {
    name_of_part(&container.get("name"), out);
    let image = container.get("image");
    if image.require("", out) && image.text().is_some_and(|text| text != text.trim()) {
        out.push(image.invalid("must not have leading or trailing whitespace"));
    }
    container
        .get("imagePullPolicy")
        .one_of(&["Always", "Never", "IfNotPresent"], out);
    container
        .get("terminationMessagePolicy")
        .one_of(&["File", "FallbackToLogsOnError"], out);
    for port in container.get("ports").items() {
        container_port(&port, out);
    }
    unique(container.get("ports").items().map(|p| p.get("name")), out);
    for variable in container.get("env").items() {
        env(&variable, out);
    }
    for mount in container.get("volumeMounts").items() {
        mount.get("mountPath").require("", out);
        let name = mount.get("name");
        if name.require("", out) && name.text().is_some_and(|n| !volumes.contains(n)) {
            out.push(name.invalid("Not found: spec.volumes of the pod has no volume of this name"));
        }
    }
    resources::check(&container.get("resources"), out);
    probes::check(container, grace, out);
}

/// A volume is of one kind. Without any it is an empty directory.
fn volume(volume: &Field<'_>, out: &mut Vec<Problem>) {
    let sources = volume.map().into_iter().flatten();
    let sources = sources.filter(|(name, source)| *name != "name" && !source.is_null());
    for (name, _) in sources.skip(1) {
        let why = "may not specify more than 1 volume type";
        out.push(volume.get(name).forbidden(why));
    }
}

fn name_of_part(name: &Field<'_>, out: &mut Vec<Problem>) {
    if name.require("", out)
        && let Some(why) = name.text().and_then(names::label)
    {
        out.push(name.invalid(why));
    }
}

fn container_port(port: &Field<'_>, out: &mut Vec<Problem>) {
    let number = port.get("containerPort");
    number.require("", out);
    number.port_number(out);
    let host_port = port.get("hostPort");
    if host_port.integer() != Some(0) {
        host_port.port_number(out);
        host_port.not_yet("reach the pod by its own address", out);
    }
    port.get("protocol").one_of(&["TCP", "UDP", "SCTP"], out);
    let name = port.get("name");
    if let Some(why) = name.text().filter(|t| !t.is_empty()).and_then(names::port) {
        out.push(name.invalid(why));
    }
}

fn env(variable: &Field<'_>, out: &mut Vec<Problem>) {
    let name = variable.get("name");
    if name.require("", out)
        && let Some(why) = name.text().and_then(names::variable)
    {
        out.push(name.invalid(why));
    }
    let from = variable.get("valueFrom");
    if !from.is_there() {
        return;
    }
    if !variable.get("value").is_empty() {
        out.push(from.invalid("may not be specified when `value` is not empty"));
    }
    let sources = from
        .map()
        .map_or(0, |m| m.values().filter(|v| !v.is_null()).count());
    match sources {
        1 => {}
        0 => out.push(from.required(
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        )),
        _ => out.push(from.invalid("may not have more than one field specified at a time")),
    }
}
