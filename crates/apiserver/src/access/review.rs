//! Questions about rights and identities: reviews, which are answered and not stored.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::attributes::{Asked, Attributes};
use super::authenticate;
use super::policy::Decision;
use super::user::User;
use crate::body;
use crate::server::ApiServer;
use crate::status::Refusal;
use crate::tree::Tree;

pub(crate) const AUTHORIZATION: &str = "authorization.k8s.io";
pub(crate) const AUTHENTICATION: &str = "authentication.k8s.io";

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// May I?
    SelfAccess,
    /// May they?
    Access,
    /// May they, in this namespace?
    LocalAccess,
    /// What may I?
    SelfRules,
    /// Whose is this token?
    Token,
    /// Who am I?
    SelfSubject,
}

impl Review {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::SelfAccess,
        Self::Access,
        Self::LocalAccess,
        Self::SelfRules,
        Self::Token,
        Self::SelfSubject,
    ];

    /// Group, name in addresses and kind.
    pub(crate) fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::SelfAccess => (
                AUTHORIZATION,
                "selfsubjectaccessreviews",
                "SelfSubjectAccessReview",
            ),
            Self::Access => (AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview"),
            Self::LocalAccess => (
                AUTHORIZATION,
                "localsubjectaccessreviews",
                "LocalSubjectAccessReview",
            ),
            Self::SelfRules => (
                AUTHORIZATION,
                "selfsubjectrulesreviews",
                "SelfSubjectRulesReview",
            ),
            Self::Token => (AUTHENTICATION, "tokenreviews", "TokenReview"),
            Self::SelfSubject => (AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview"),
        }
    }

    /// The question of an address, with its namespace; `None` when it is none.
    pub(crate) fn of<'a>(group: &str, version: &str, rest: &'a str) -> Option<(Self, &'a str)> {
        let (namespace, plural) = match rest.strip_prefix("namespaces/") {
            Some(rest) => rest.split_once('/')?,
            None => ("", rest),
        };
        let named = |review: &Self| {
            let (its_group, its_plural, _) = review.names();
            its_group == group && its_plural == plural && version == "v1"
        };
        let found = Self::ALL.into_iter().find(named)?;
        ((found == Self::LocalAccess) != namespace.is_empty()).then_some((found, namespace))
    }
}

/// Answers a question.
pub(crate) fn answer(
    server: &ApiServer,
    (review, namespace): (Review, &str),
    method: &Method,
    headers: &HeaderMap,
    content: &[u8],
) -> Result<Response, Refusal> {
    if *method != Method::POST {
        return Err(Refusal::method(method));
    }
    let user = &*server.author.user;
    let (group, _, kind) = review.names();
    let mut question = body::object(headers, content)?;
    let status = status(server, user, review, namespace, question.at("/spec"))?;
    question.set("apiVersion", format!("{group}/v1"));
    question.set("kind", kind);
    question.map("metadata");
    question.set("status", status);
    Ok((StatusCode::CREATED, axum::Json(question)).into_response())
}

fn status(
    server: &ApiServer,
    user: &User,
    review: Review,
    namespace: &str,
    spec: &Value,
) -> Result<Value, Refusal> {
    Ok(match review {
        Review::SelfAccess => decision(server, user, &asked(spec)?),
        Review::Access => decision(server, &subject(spec)?, &asked(spec)?),
        Review::LocalAccess => {
            let asked = asked(spec)?;
            if asked.namespace() != namespace {
                let why = format!(
                    "namespace mismatch: spec.resourceAttributes.namespace must be {namespace:?}"
                );
                return Err(Refusal::bad_request(why));
            }
            decision(server, &subject(spec)?, &asked)
        }
        Review::SelfRules => rules(
            server,
            user,
            spec.at("/namespace").as_str().unwrap_or_default(),
        ),
        Review::Token => authenticate::review(server, spec),
        Review::SelfSubject => json!({"userInfo": user.info()}),
    })
}

fn decision(server: &ApiServer, user: &User, attributes: &Attributes) -> Value {
    match server.policies.now().decide(user, attributes) {
        Decision::Allowed { why } if why.is_empty() => json!({"allowed": true}),
        Decision::Allowed { why } => json!({"allowed": true, "reason": why}),
        Decision::Denied { why } if why.is_empty() => json!({"allowed": false}),
        Decision::Denied { why } => json!({"allowed": false, "evaluationError": why}),
    }
}

/// What a review asks about.
fn asked(spec: &Value) -> Result<Attributes, Refusal> {
    let (resource, url) = (
        spec.at("/resourceAttributes"),
        spec.at("/nonResourceAttributes"),
    );
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    match (resource.is_object(), url.is_object()) {
        (true, false) => Ok(Attributes {
            verb: text(resource, "verb"),
            asked: Asked::Resource {
                group: text(resource, "group"),
                resource: text(resource, "resource"),
                subresource: text(resource, "subresource"),
                namespace: text(resource, "namespace"),
                name: text(resource, "name"),
            },
        }),
        (false, true) => Ok(Attributes {
            verb: text(url, "verb"),
            asked: Asked::Url(text(url, "path")),
        }),
        _ => Err(Refusal::bad_request(
            "spec.resourceAttributes: Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}

/// Whom a review asks about.
fn subject(spec: &Value) -> Result<User, Refusal> {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let texts = |of: &Value| -> Vec<String> {
        let all = of.as_array().into_iter().flatten();
        all.filter_map(|t| t.as_str().map(str::to_owned)).collect()
    };
    let extra = spec.at("/extra").as_object().into_iter().flatten();
    let user = User {
        name: text("user"),
        uid: text("uid"),
        groups: texts(spec.at("/groups")),
        extra: extra
            .map(|(key, values)| (key.clone(), texts(values)))
            .collect::<BTreeMap<_, _>>(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(Refusal::bad_request(
            "spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ));
    }
    Ok(user)
}

fn rules(server: &ApiServer, user: &User, namespace: &str) -> Value {
    let rules = server.policies.now().rules_for(user, namespace);
    let (urls, resources): (Vec<_>, Vec<_>) = rules
        .into_iter()
        .partition(|r| !r.non_resource_urls.is_empty());
    json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": false})
}
