//! Who asks, and whether they may: every request passes here before anything is read for it.
//!
//! Responsible for: the identity of a request ([`authenticate`]) and of those it speaks for ([`impersonate`]), what it asks for
//! ([`Attributes`]), the rights that objects of RBAC give ([`Policy`]), the rule that nobody gives rights that they do not have
//! ([`escalation`]), the tokens of service accounts and the questions about all of it ([`review`]).
//!
//! No route can be forgotten: what a request asks for is a total function of its method and its address, so that an address
//! that nobody thought of is one that only administrators may ask for. Absent on purpose: users and passwords.

mod attributes;
mod authenticate;
mod escalation;
mod impersonate;
mod policy;
pub(crate) mod review;
pub(crate) mod roles;
mod rule;
mod token;
pub(crate) mod token_request;
mod user;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::header;

pub(crate) use self::attributes::{Asked, Attributes, whole_name};
pub(crate) use self::authenticate::{Credentials, authenticate};
pub(crate) use self::escalation::check as check_escalation;
pub(crate) use self::policy::{Decision, Policies};
pub use self::token::TokenKey;
pub(crate) use self::user::Author;
pub use self::user::User;
use crate::server::ApiServer;
use crate::status::Refusal;

/// The groups that every request is in one of.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Whoever is in it may do everything, whatever the objects of RBAC say.
pub(crate) const MASTERS: &str = "system:masters";
/// Who shows nothing.
pub(crate) const ANONYMOUS: &str = "system:anonymous";
/// The group of the objects of RBAC.
pub(crate) const RBAC: &str = "rbac.authorization.k8s.io";

/// A program's own name for itself is kept up to this length.
const AGENT_LENGTH: usize = 128;

/// Lets through what the caller may do. The caller is in the extensions of the request; without one, nothing is.
pub(crate) fn guard(routes: Router, server: &ApiServer) -> Router {
    routes.layer(middleware::from_fn_with_state(server.clone(), admit))
}

/// Everything that comes through this router is asked by `user`.
pub(crate) fn trusted(routes: Router, user: User) -> Router {
    routes.layer(axum::Extension(Arc::new(user)))
}

async fn admit(State(server): State<ApiServer>, mut request: Request, next: Next) -> Response {
    match decide(&server, &request) {
        Ok(author) => {
            request.extensions_mut().insert(Arc::new(author));
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Whether a name is that of a part of the platform, which asks for what it has no right to by a mistake of ours only.
fn is_a_part(name: &str) -> bool {
    name.strip_prefix("system:")
        .is_some_and(|rest| !rest.starts_with("serviceaccount:") && rest != "anonymous")
}

/// On whose behalf a request is done; refused when they may not.
fn decide(server: &ApiServer, request: &Request) -> Result<Author, Refusal> {
    let caller = request.extensions().get::<Arc<User>>();
    let caller = caller.ok_or_else(Refusal::unauthorized)?;
    let policy = server.policies.now();
    let user = impersonate::effective(&policy, caller, request.headers())?;
    let attributes = Attributes::of(request.method(), request.uri());
    match policy.decide(&user, &attributes) {
        Decision::Allowed { .. } => {}
        // Who has shown nothing is asked to, rather than told what they lack.
        Decision::Denied { .. } if user.name == ANONYMOUS && caller.name == ANONYMOUS => {
            return Err(Refusal::unauthorized());
        }
        Decision::Denied { why } => {
            let refusal = Refusal::denied(&user.name, &attributes, &why);
            if is_a_part(&user.name) {
                tracing::warn!(why = refusal.message, "a part of the platform was refused");
            }
            return Err(refusal);
        }
    }
    let agent = request.headers().get(header::USER_AGENT);
    let agent = agent
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    Ok(Author {
        user,
        verb: attributes.verb.into(),
        agent: agent.chars().take(AGENT_LENGTH).collect(),
    })
}
