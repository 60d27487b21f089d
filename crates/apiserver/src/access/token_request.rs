//! `POST serviceaccounts/NAME/token`: a token for a service account, as `kubectl create token` asks for it.

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use serin_api::{FieldPath, Problem};

use super::token::{About, Claims, ISSUER, Named};
use super::user::service_account_name;
use crate::body;
use crate::meta;
use crate::server::{ApiServer, Call};
use crate::status::{Refusal, Subject};
use crate::store::Key;
use crate::tree::Tree;

/// Seconds that a token lasts when nothing is said, at least, and at most.
const LASTS: (i64, i64, i64) = (3600, 600, 1 << 32);

pub(crate) fn answer(server: &ApiServer, call: &Call) -> Result<Response, Refusal> {
    if call.method != Method::POST {
        return Err(Refusal::method(&call.method));
    }
    let mut request = body::object(&call.headers, &call.body)?;
    let problems = complete(&mut request);
    if !problems.is_empty() {
        return Err(Refusal::invalid(subject(call), &problems));
    }
    let account = server.store.get(&call.target.key());
    let account = account.ok_or_else(|| Refusal::not_found(call.target.subject()))?;
    if account.facts.deleting {
        let why = "the service account is being deleted";
        return Err(Refusal::conflict(call.target.subject(), why));
    }
    let mut about = About {
        namespace: call.target.namespace().to_owned(),
        serviceaccount: Named {
            name: call.target.name().to_owned(),
            uid: account.facts.uid.to_string(),
        },
        ..About::default()
    };
    bind(server, call, &request, &mut about)?;
    let claims = claims(server, &request, about);
    let token = server.token_key().sign(&claims);
    let token = token.map_err(|error| Refusal::internal(error.to_string()))?;
    let until = jiff::Timestamp::from_second(claims.exp).unwrap_or(jiff::Timestamp::MAX);
    request.set(
        "status",
        json!({"token": token, "expirationTimestamp": meta::seconds(until)}),
    );
    Ok((StatusCode::CREATED, axum::Json(request)).into_response())
}

/// Fills in what is left out, and answers every problem.
fn complete(request: &mut Value) -> Vec<Problem> {
    let (default, least, most) = LASTS;
    request.set("apiVersion", "authentication.k8s.io/v1");
    request.set("kind", "TokenRequest");
    request.map("metadata");
    let spec = request.map("spec");
    if spec
        .get("audiences")
        .is_none_or(|a| a.as_array().is_none_or(Vec::is_empty))
    {
        spec.insert("audiences".into(), json!([ISSUER]));
    }
    let path = FieldPath::new("spec.expirationSeconds");
    let mut problems = Vec::new();
    match spec.get("expirationSeconds").filter(|s| !s.is_null()) {
        None => drop(spec.insert("expirationSeconds".into(), default.into())),
        Some(seconds) => match seconds.as_i64() {
            Some(seconds) if seconds < least => {
                let why = "may not specify a duration less than 10 minutes";
                problems.push(Problem::invalid(path, seconds, why));
            }
            Some(seconds) if seconds > most => {
                let why = "may not specify a duration larger than 2^32 seconds";
                problems.push(Problem::invalid(path, seconds, why));
            }
            Some(_) => {}
            None => problems.push(Problem::invalid(path, seconds, "must be a whole number")),
        },
    }
    let audiences = request.at("/spec/audiences").as_array();
    if audiences.is_some_and(|list| list.iter().any(|a| !a.is_string())) {
        let path = FieldPath::new("spec.audiences");
        problems.push(Problem::invalid(path, "(list)", "must be texts"));
    }
    problems
}

/// Ties the token to the object that the request names: it ends with it.
fn bind(
    server: &ApiServer,
    call: &Call,
    request: &Value,
    about: &mut About,
) -> Result<(), Refusal> {
    let bound = request.at("/spec/boundObjectRef");
    if bound.is_null() {
        return Ok(());
    }
    let text = |field: &str| bound[field].as_str().unwrap_or_default().to_owned();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let plural = match (text("apiVersion").as_str(), kind.as_str()) {
        ("v1" | "", "Pod") => "pods",
        ("v1" | "", "Secret") => "secrets",
        _ => {
            let why = format!(
                "cannot bind token for serviceaccount {:?} to object kind {kind:?}: only v1 Pod and Secret are bound to",
                call.target.name()
            );
            return Err(Refusal::bad_request(why));
        }
    };
    let key = Key::new("", plural, call.target.namespace(), &name);
    let found = server.store.get(&key).ok_or_else(|| {
        Refusal::not_found(Subject {
            group: "",
            kind: &kind,
            plural,
            name: &name,
        })
    })?;
    if !uid.is_empty() && *found.facts.uid != *uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Refusal::conflict(call.target.subject(), &why));
    }
    if plural == "pods" {
        let object = found.value();
        let account = object.at("/spec/serviceAccountName").as_str();
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
        if account != call.target.name() {
            let why = format!(
                "cannot bind token for serviceaccount {:?} to pod running with serviceaccount {account:?}",
                call.target.name()
            );
            return Err(Refusal::bad_request(why));
        }
    }
    let named = Named {
        name,
        uid: found.facts.uid.to_string(),
    };
    match plural {
        "pods" => about.pod = Some(named),
        _ => about.secret = Some(named),
    }
    Ok(())
}

fn claims(server: &ApiServer, request: &Value, about: About) -> Claims {
    let now = server.now().as_second();
    let lasts = request.at("/spec/expirationSeconds").as_i64().unwrap_or(0);
    let audiences = request
        .at("/spec/audiences")
        .as_array()
        .into_iter()
        .flatten();
    Claims {
        aud: audiences
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect(),
        exp: now.saturating_add(lasts),
        iat: now,
        iss: ISSUER.to_owned(),
        jti: meta::new_uid(),
        nbf: now,
        sub: service_account_name(&about.namespace, &about.serviceaccount.name),
        about,
    }
}

fn subject(call: &Call) -> Subject<'_> {
    Subject {
        group: "authentication.k8s.io",
        kind: "TokenRequest",
        plural: "serviceaccounts",
        name: call.target.name(),
    }
}
