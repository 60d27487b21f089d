//! The API server as a value: its store, its clock, and the router that answers for it.

use std::sync::{Arc, Once, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, Method, header};
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use serde_json::json;
use tokio_util::io::ReaderStream;

use crate::access::{self, Author, Policies, TokenKey, User, review};
use crate::listen::Lifetime;
use crate::logs::PodLogs;
use crate::options::Parameters;
use crate::registry::Registry;
use crate::status::{Refusal, add_warnings};
use crate::store::Store;
use crate::streams::{Places, PodExec};
use crate::target::Target;
use crate::{body, collect, discovery, guard, history, openapi, verbs};

/// Tells the time.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A Kubernetes API server over a [`Store`]; clones share everything.
///
/// The first request starts the collector (owners, namespaces, old events) as a task of its runtime; it ends when the
/// store is closed.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) store: Store,
    pub(crate) logs: Option<Arc<dyn PodLogs>>,
    pub(crate) exec: Option<Arc<dyn PodExec>>,
    pub(crate) places: Places,
    pub(crate) clock: Clock,
    pub(crate) registry: Registry,
    pub(crate) policies: Policies,
    /// Who shows which token, besides the administrator and service accounts.
    pub(crate) tokens: Arc<[(Box<str>, User)]>,
    /// Drawn when it is first needed, if none was given.
    token_key: Arc<OnceLock<TokenKey>>,
    /// On whose behalf it works: the server's own, but for a request.
    pub(crate) author: Arc<Author>,
    collector: Arc<Once>,
}

impl ApiServer {
    /// A server of the objects in `store`, with the clock of the machine, without logs of pods, and with a new key for the
    /// tokens of service accounts.
    pub fn new(store: Store) -> Self {
        Self {
            registry: Registry::over(store.shared()),
            policies: Policies::over(store.shared()),
            token_key: Arc::default(),
            tokens: Arc::new([]),
            author: Arc::new(Author::server()),
            store,
            logs: None,
            exec: None,
            places: Places::default(),
            clock: Arc::new(Timestamp::now),
            collector: Arc::new(Once::new()),
        }
    }

    /// Answers `/log` of pods from `logs`; without, it is answered as not implemented.
    #[must_use]
    pub fn with_logs(self, logs: Arc<dyn PodLogs>) -> Self {
        Self {
            logs: Some(logs),
            ..self
        }
    }

    /// Signs the tokens of service accounts with this key, so that they outlive the process.
    #[must_use]
    pub fn with_token_key(self, key: TokenKey) -> Self {
        Self {
            token_key: Arc::new(OnceLock::from(key)),
            ..self
        }
    }

    /// Takes who shows this token for `user`.
    #[must_use]
    pub fn with_token(self, token: &str, user: User) -> Self {
        let more = std::iter::once((token.into(), user));
        Self {
            tokens: self.tokens.iter().cloned().chain(more).collect(),
            ..self
        }
    }

    /// Runs commands in containers by `exec`; without, `/exec` of pods is answered as not implemented.
    #[must_use]
    pub fn with_exec(self, exec: Arc<dyn PodExec>) -> Self {
        Self {
            exec: Some(exec),
            ..self
        }
    }

    /// Takes the time of all objects from `clock`: for tests with a time of their own.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            clock: Arc::new(clock),
            ..self
        }
    }

    /// The whole API, for callers in this process: whoever holds it may do everything.
    pub fn router(&self) -> Router {
        self.router_of(User::of_the_system("system:apiserver"))
    }

    /// The API for a caller in this process that is `user`, with the rights of `user`.
    pub fn router_of(&self, user: User) -> Router {
        access::trusted(self.routes(), user)
    }

    /// The API for a listener: but for the health checks and the version a request needs the token of the administrator or
    /// that of a service account, and it must name this machine's loopback as its host.
    pub fn guarded_router(&self, admin_token: &str) -> Router {
        self.guarded_router_at(admin_token, &[])
    }

    /// As [`ApiServer::guarded_router`], for a server that is also reached under these names and addresses.
    pub fn guarded_router_at(&self, admin_token: &str, hosts: &[String]) -> Router {
        guard::guard(self.routes(), self, admin_token, hosts)
    }

    /// Every route. None is reached by who may not.
    fn routes(&self) -> Router {
        let health = || async { "ok" };
        let routes = Router::new()
            .route("/healthz", get(health))
            .route("/livez", get(health))
            .route("/readyz", get(health))
            .route("/version", get(version))
            .route("/backup", get(backup))
            .route("/history", get(history::answer))
            .route("/api", get(discovery::core))
            .route("/apis", get(discovery::groups))
            .route("/openapi/v2", get(openapi::v2::document))
            .route("/openapi/v3", get(openapi::index))
            .route("/openapi/v3/{*path}", get(openapi::document))
            .fallback(resources)
            .with_state(self.clone());
        access::guard(routes, self)
    }

    /// The same server, at work on behalf of a request.
    fn on_behalf_of(&self, author: Arc<Author>) -> Self {
        Self {
            author,
            ..self.clone()
        }
    }

    /// With the very clock and the very kinds of another server.
    pub(crate) fn beside(self, clock: &Clock, registry: &Registry) -> Self {
        Self {
            clock: Arc::clone(clock),
            registry: registry.clone(),
            ..self
        }
    }

    /// The key that tokens of service accounts are signed with.
    pub(crate) fn token_key(&self) -> &TokenKey {
        self.token_key.get_or_init(TokenKey::of_this_process)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn start_collector(&self) {
        self.collector.call_once(|| {
            tokio::spawn(collect::run(
                self.store.downgrade(),
                self.registry.clone(),
                Arc::clone(&self.clock),
            ));
        });
    }
}

/// As [`ApiServer::router`].
pub fn router(server: &ApiServer) -> Router {
    server.router()
}

/// The state file as of now.
async fn backup(State(server): State<ApiServer>) -> Response {
    match server.store.copy().await {
        Ok(file) => {
            let kind = HeaderValue::from_static("application/vnd.sqlite3");
            let bytes = ReaderStream::new(tokio::fs::File::from_std(file));
            ([(header::CONTENT_TYPE, kind)], Body::from_stream(bytes)).into_response()
        }
        Err(error) => Refusal::unwritten(&error).into_response(),
    }
}

async fn version() -> Response {
    let version = json!({
        "major": "1", "minor": "33", "gitVersion": concat!("v1.33.0+serin-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
        "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    });
    axum::Json(version).into_response()
}

/// A request for objects, read as far as it is common to all verbs.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) parameters: Parameters,
    pub(crate) headers: HeaderMap,
    pub(crate) body: bytes::Bytes,
    /// The way to speak something else than HTTP on this connection; `None` where it cannot.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// That of the listener, for what goes on then.
    pub(crate) lifetime: Lifetime,
}

async fn resources(State(server): State<ApiServer>, request: Request) -> Response {
    server.start_collector();
    let answer = match request.extensions().get::<Arc<Author>>() {
        Some(author) => answer(server.on_behalf_of(Arc::clone(author)), request).await,
        None => Err(Refusal::unauthorized()),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(server: ApiServer, request: Request<Body>) -> Result<Response, Refusal> {
    let (mut parts, body) = request.into_parts();
    let (group, version, rest) = split_path(parts.uri.path()).ok_or_else(Refusal::no_page)?;
    if rest.is_empty() {
        return match parts.method {
            Method::GET if version.is_empty() => discovery::group(&server.registry, group),
            Method::GET => discovery::resources(&server.registry, group, version),
            method => Err(Refusal::method(&method)),
        };
    }
    let body = body::read(body).await?;
    if let Some(question) = review::Review::of(group, version, rest) {
        return review::answer(&server, question, &parts.method, &parts.headers, &body);
    }
    let call = Call {
        target: Target::parse(&server.registry, group, version, rest)?,
        parameters: Parameters::parse(&parts.uri)?,
        method: parts.method,
        headers: parts.headers,
        body,
        upgrade: parts.extensions.remove::<OnUpgrade>(),
        lifetime: parts.extensions.remove::<Lifetime>().unwrap_or_default(),
    };
    let deprecation = call.target.kind.deprecation.clone();
    let mut response = verbs::answer(&server, call).await?;
    add_warnings(&mut response, deprecation.as_slice());
    Ok(response)
}

/// Group, version and the rest of `/api/VERSION/…` or `/apis/GROUP/VERSION/…`; absent parts are empty.
pub(crate) fn split_path(path: &str) -> Option<(&str, &str, &str)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if let Some(core) = path.strip_prefix("/api/") {
        let (version, rest) = core.split_once('/').unwrap_or((core, ""));
        return Some(("", version, rest));
    }
    let named = path.strip_prefix("/apis/")?;
    let (group, rest) = named.split_once('/').unwrap_or((named, ""));
    let (version, rest) = rest.split_once('/').unwrap_or((rest, ""));
    Some((group, version, rest))
}
