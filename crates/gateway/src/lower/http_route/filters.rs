//! The filters and the retries of an HTTPRoute.

use serin_api::Problem;
use serin_api::gateway_api::{
    HttpHeaderFilter, HttpPathModifier, HttpRequestMirror, HttpRequestRedirect, HttpRouteFilter,
    HttpRouteRule,
};
use serin_api::problem::FieldPath;

use super::super::common::{HeaderReader, millis, per_million};
use super::{Context, parse_host};
use crate::table::{
    Direct, HeaderChanges, Mirror, PathRewrite, Redirect, Retry, Rewrite, RulePolicy,
};

const OF_RULES: [&str; 5] = [
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
];
const OF_BACKENDS: [&str; 2] = ["RequestHeaderModifier", "ResponseHeaderModifier"];

impl Context<'_> {
    /// What filters do to the headers of the request, and the rest of it. Those of a backend can change headers alone.
    pub(super) fn filters(
        &mut self,
        filters: &[HttpRouteFilter],
        path: &FieldPath,
        is_of_rule: bool,
    ) -> (HeaderChanges, RulePolicy) {
        let mut headers = HeaderChanges::default();
        let mut policy = RulePolicy::default();
        let known: &[&str] = if is_of_rule { &OF_RULES } else { &OF_BACKENDS };
        for (index, filter) in filters.iter().enumerate() {
            let at = path.field("filters").index(index);
            if !known.contains(&filter.type_.as_str()) {
                let at = at.field("type");
                self.refused
                    .push(Problem::not_supported(at, &filter.type_, known));
                continue;
            }
            self.filter(filter, &at, &mut headers, &mut policy);
        }
        (headers, policy)
    }

    fn filter(
        &mut self,
        filter: &HttpRouteFilter,
        at: &FieldPath,
        headers: &mut HeaderChanges,
        policy: &mut RulePolicy,
    ) {
        let settings = match filter.type_.as_str() {
            "RequestHeaderModifier" => {
                let at = at.field("requestHeaderModifier");
                let modifier = filter.request_header_modifier.as_ref();
                modifier.map(|m| self.header_changes(m, &at, headers))
            }
            "ResponseHeaderModifier" => {
                let at = at.field("responseHeaderModifier");
                let modifier = filter.response_header_modifier.as_ref();
                modifier.map(|m| self.header_changes(m, &at, &mut policy.answer_headers))
            }
            "RequestMirror" => {
                let at = at.field("requestMirror");
                let mirror = filter.request_mirror.as_ref();
                mirror.map(|m| policy.mirrors.extend(self.mirror(m, &at)))
            }
            "RequestRedirect" => {
                let at = at.field("requestRedirect");
                let redirect = filter.request_redirect.as_ref();
                redirect.map(|r| policy.direct = Some(Direct::Redirect(self.redirect(r, &at))))
            }
            _ => {
                let at = at.field("urlRewrite");
                filter.url_rewrite.as_ref().map(|rewrite| {
                    policy.rewrite = Some(Rewrite {
                        host: self.host(rewrite.hostname.as_deref(), &at.field("hostname")),
                        path: self.path_modifier(rewrite.path.as_ref(), &at.field("path")),
                    });
                })
            }
        };
        if settings.is_none() {
            let hint = format!("the settings of a {}", filter.type_);
            self.refused.push(Problem::required(at.clone(), &hint));
        }
    }

    fn header_changes(
        &mut self,
        modifier: &HttpHeaderFilter,
        at: &FieldPath,
        changes: &mut HeaderChanges,
    ) {
        let mut reader = HeaderReader {
            refused: &mut self.refused,
            changes: std::mem::take(changes),
        };
        for (index, header) in modifier.set.iter().enumerate() {
            reader.set(&header.name, &header.value, &at.field("set").index(index));
        }
        for (index, header) in modifier.add.iter().enumerate() {
            reader.add(&header.name, &header.value, &at.field("add").index(index));
        }
        for (index, name) in modifier.remove.iter().enumerate() {
            reader.remove(name, &at.field("remove").index(index));
        }
        *changes = reader.changes;
    }

    fn mirror(&mut self, mirror: &HttpRequestMirror, at: &FieldPath) -> Option<Mirror> {
        let (service, port) = self.reference(&mirror.backend_ref, &at.field("backendRef"))?;
        let fraction = mirror.fraction.as_ref().map(|fraction| {
            let whole = f64::from(fraction.denominator.unwrap_or(100).max(1));
            per_million(f64::from(fraction.numerator) * 100.0 / whole)
        });
        let percent = mirror
            .percent
            .map(|percent| per_million(f64::from(percent)));
        Some(Mirror {
            service,
            port,
            subset: None,
            per_million: percent.or(fraction).unwrap_or(1_000_000),
        })
    }

    fn redirect(&mut self, redirect: &HttpRequestRedirect, at: &FieldPath) -> Redirect {
        let port = redirect.port.and_then(|port| u16::try_from(port).ok());
        Redirect {
            status: u16::try_from(redirect.status_code.unwrap_or(302)).unwrap_or(302),
            scheme: redirect.scheme.clone(),
            host: self.host(redirect.hostname.as_deref(), &at.field("hostname")),
            port,
            path: self.path_modifier(redirect.path.as_ref(), &at.field("path")),
        }
    }

    fn host(&mut self, host: Option<&str>, at: &FieldPath) -> Option<String> {
        let host = host?;
        match parse_host(host) {
            Some((false, host)) => Some(host),
            _ => {
                let why = "must be a host name, without a port";
                self.refused.push(Problem::invalid(at.clone(), host, why));
                None
            }
        }
    }

    fn path_modifier(
        &mut self,
        modifier: Option<&HttpPathModifier>,
        at: &FieldPath,
    ) -> Option<PathRewrite> {
        let modifier = modifier?;
        match modifier.type_.as_str() {
            "ReplaceFullPath" => {
                let path = modifier.replace_full_path.clone();
                Some(PathRewrite::Full(path.unwrap_or_default()))
            }
            "ReplacePrefixMatch" => {
                let path = modifier.replace_prefix_match.clone();
                Some(PathRewrite::Prefix(path.unwrap_or_default()))
            }
            other => {
                let known = ["ReplaceFullPath", "ReplacePrefixMatch"];
                let at = at.field("type");
                self.refused.push(Problem::not_supported(at, other, &known));
                None
            }
        }
    }

    pub(super) fn retry(&mut self, rule: &HttpRouteRule, at: &FieldPath) -> Option<Retry> {
        let retry = rule.retry.as_ref()?;
        let backoff = retry.backoff.as_deref();
        let pause = millis(backoff, &at.field("backoff"), &mut self.refused);
        let codes = retry
            .codes
            .iter()
            .filter_map(|code| u16::try_from(*code).ok());
        Some(Retry {
            attempts: retry
                .attempts
                .map_or(1, |n| u32::try_from(n).unwrap_or_default()),
            statuses: codes.collect(),
            on_failure: true,
            pause_ms: pause.unwrap_or_default(),
        })
    }
}
