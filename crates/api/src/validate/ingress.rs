//! Ingresses, with the annotations of ingress-nginx that split requests.

use super::field::Field;
use super::names;
use crate::Problem;

/// The class of an Ingress before there was a field for it.
const CLASS: &str = "kubernetes.io/ingress.class";
const NGINX: &str = "nginx.ingress.kubernetes.io/";
const CANARY: &str = "nginx.ingress.kubernetes.io/canary";
/// Whether plain requests are sent to HTTPS.
const REDIRECTS: [&str; 2] = [
    "nginx.ingress.kubernetes.io/ssl-redirect",
    "nginx.ingress.kubernetes.io/force-ssl-redirect",
];
const CANARY_WEIGHT: &str = "nginx.ingress.kubernetes.io/canary-weight";
const CANARY_WEIGHT_TOTAL: &str = "nginx.ingress.kubernetes.io/canary-weight-total";

pub(super) fn check(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    let (backend_field, rules) = (spec.get("defaultBackend"), spec.get("rules"));
    if !backend_field.is_there() && rules.is_empty() {
        out.push(spec.required("either `defaultBackend` or `rules` must be specified"));
    }
    if backend_field.is_there() {
        backend(&backend_field, out);
    }
    for rule in rules.items() {
        let host = rule.get("host");
        if let Some(why) = host.text().filter(|t| !t.is_empty()).and_then(names::host) {
            out.push(host.invalid(why));
        }
        let paths = rule.at("http.paths");
        if rule.get("http").is_there() {
            paths.require("", out);
        }
        for one in paths.items() {
            path(&one, out);
        }
    }
    let class = spec.get("ingressClassName");
    if let Some(why) = class.text().and_then(names::subdomain) {
        out.push(class.invalid(why));
    }
    annotations(&root.at("metadata.annotations"), class.is_there(), out);
}

fn path(path: &Field<'_>, out: &mut Vec<Problem>) {
    let kind = path.get("pathType");
    kind.one_of(&["Exact", "ImplementationSpecific", "Prefix"], out);
    let text = path.get("path");
    match (kind.text(), text.text().filter(|text| !text.is_empty())) {
        (Some("Exact" | "Prefix"), None) => out.push(text.required("")),
        (_, Some(value)) if !value.starts_with('/') => {
            out.push(text.invalid("must be an absolute path"));
        }
        (Some("Exact" | "Prefix"), Some(value))
            if ["//", "/./", "/../"].iter().any(|bad| value.contains(bad)) =>
        {
            out.push(text.invalid("must not contain '//', '/./' or '/../'"));
        }
        _ => {}
    }
    backend(&path.get("backend"), out);
}

fn backend(backend: &Field<'_>, out: &mut Vec<Problem>) {
    let service = backend.get("service");
    let resource = backend.get("resource");
    if resource.is_there() {
        out.push(Problem::unbuilt(
            resource.path,
            "name a Service under service",
        ));
        return;
    }
    if !service.is_there() {
        if backend.is_there() {
            out.push(service.required("name the Service and its port"));
        }
        return;
    }
    let name = service.get("name");
    if name.require("", out)
        && let Some(why) = name.text().and_then(names::service)
    {
        out.push(name.invalid(why));
    }
    let port = service.get("port");
    let (number, port_name) = (port.get("number"), port.get("name"));
    number.port_number(out);
    match (number.is_there(), port_name.is_empty()) {
        (false, true) => out.push(port.required("port name or number is required")),
        (true, false) => out.push(port.invalid("cannot set both port name & port number")),
        _ => {}
    }
}

fn annotations(annotations: &Field<'_>, has_class: bool, out: &mut Vec<Problem>) {
    for (key, field) in annotations.entries() {
        let text = field.text_or_empty();
        match key {
            CLASS if has_class => {
                out.push(field.invalid("can not be set when the class field is also set"));
            }
            CLASS => out.push(field.warning("deprecated, use spec.ingressClassName instead")),
            CANARY if !matches!(text, "true" | "false") => {
                out.push(field.invalid("must be \"true\" or \"false\""));
            }
            CANARY_WEIGHT => {
                let total = annotations
                    .map()
                    .and_then(|map| map.get(CANARY_WEIGHT_TOTAL));
                let total = total.and_then(|t| t.as_str()?.parse().ok());
                let total: u32 = total.unwrap_or(100);
                if !text.parse::<u32>().is_ok_and(|weight| weight <= total) {
                    out.push(
                        field.invalid(&format!("must be a number from 0 to {total} in quotes")),
                    );
                }
            }
            CANARY_WEIGHT_TOTAL if !text.parse::<u32>().is_ok_and(|total| total > 0) => {
                out.push(field.invalid("must be a number above 0 in quotes"));
            }
            _ if REDIRECTS.contains(&key) => {}
            _ if key.starts_with(NGINX) && !key.starts_with(CANARY) => {
                field.not_yet("the Ingress is served without it", out);
            }
            _ => {}
        }
    }
}
