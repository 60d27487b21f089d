//! Requests to servers of metrics: each with a deadline, a cap on the answer and a check of the address.

use std::path::Path;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serin_api::analysis::Header;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Duration, timeout};
use tokio_rustls::rustls::pki_types::ServerName;

use super::egress::{Egress, Reach};
use super::tls::{self, Trust};

/// An answer larger than this is an error. Read as JSON it may take thirty times as much.
const CAP_BYTES: usize = 1024 * 1024;
const MOST_REDIRECTS: usize = 5;

/// The answer of a server, whatever its status.
pub(crate) type Answer = (StatusCode, Bytes);

/// A request that may be redirected.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// Bound to scheme, host and port: a redirect elsewhere does not get them.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) deadline: Duration,
    pub(crate) trust: Trust,
    pub(crate) reach: Reach,
}

/// Makes requests within what [`Egress`] allows.
#[derive(Clone)]
pub(crate) struct Fetcher {
    egress: Egress,
}

impl Fetcher {
    pub(crate) fn new(egress: Egress) -> Self {
        Self { egress }
    }

    /// The answer, after redirects.
    ///
    /// # Errors
    /// A sentence for the person, with nothing of the answer in it.
    pub(crate) async fn fetch(&self, call: Call) -> Result<Answer, String> {
        let seconds = call.deadline.as_secs_f32();
        timeout(call.deadline, self.follow(call))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {seconds} s")))
    }

    async fn follow(&self, mut call: Call) -> Result<Answer, String> {
        for _ in 0..=MOST_REDIRECTS {
            let (status, headers, body) = self.once(&call).await?;
            let location = headers
                .get(header::LOCATION)
                .filter(|_| status.is_redirection());
            let Some(location) = location else {
                return Ok((status, body));
            };
            if call.method != Method::GET {
                return Err(format!(
                    "{} answers {status}: only a GET is redirected",
                    call.uri
                ));
            }
            let next = redirected(&call.uri, location)?;
            if origin(&next) != origin(&call.uri) {
                call.headers.clear();
            }
            call.uri = next;
        }
        Err(format!("more than {MOST_REDIRECTS} redirects"))
    }

    async fn once(&self, call: &Call) -> Result<(StatusCode, HeaderMap, Bytes), String> {
        let (secure, host, port) = origin(&call.uri)
            .ok_or_else(|| format!("{}: must be http://HOST or https://HOST", call.uri))?;
        let stream = self.connect(&host, port, call.reach).await?;
        let path = call.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut request = Request::builder().method(&call.method).uri(path);
        if let Some(headers) = request.headers_mut() {
            headers.extend(call.headers.clone());
            let authority = call
                .uri
                .authority()
                .map_or(host.as_str(), Authority::as_str);
            let authority = authority.rsplit('@').next().unwrap_or(authority);
            let value = HeaderValue::from_str(authority).map_err(|e| e.to_string())?;
            headers.insert(header::HOST, value);
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let request = request.body(Full::new(call.body.clone()));
        let request = request.map_err(|e| e.to_string())?;
        if !secure {
            return exchange(stream, request).await;
        }
        let name = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|_| format!("{host}: no name for TLS"))?;
        let connector = tls::connector(&call.trust).await?;
        let stream = connector.connect(name, stream).await;
        exchange(
            stream.map_err(|e| format!("{host}:{port}: TLS: {e}"))?,
            request,
        )
        .await
    }

    /// Connects to the very address that was checked: a name that changes its meaning in between changes nothing.
    async fn connect(&self, host: &str, port: u16, reach: Reach) -> Result<TcpStream, String> {
        self.egress.host(host, port)?;
        let plain = host.trim_matches(['[', ']']);
        let found = lookup_host((plain, port)).await;
        let found = found.map_err(|e| format!("{host}: {e}"))?;
        let mut last = format!("{host} has no address");
        for address in found {
            if let Err(why) = self.egress.address(host, port, address.ip(), reach) {
                last = why;
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(e) => last = format!("{host}:{port}: {e}"),
            }
        }
        Err(last)
    }
}

/// One GET over a unix socket.
///
/// # Errors
/// A sentence for the person.
pub(super) async fn get_unix(
    socket: &Path,
    path: &str,
    deadline: Duration,
) -> Result<Answer, String> {
    let asking = async {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.map_err(|e| format!("{}: {e}", socket.display()))?;
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::new()));
        let request = request.map_err(|e| e.to_string())?;
        let (status, _, body) = exchange(stream, request).await?;
        Ok((status, body))
    };
    timeout(deadline, asking)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", deadline.as_secs_f32())))
}

/// Headers of a template.
///
/// # Errors
/// The name of a header that is none; never its value.
pub(super) fn headers(given: &[Header]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in given {
        let name = HeaderName::try_from(&header.key);
        let name = name.map_err(|_| format!("headers: {:?} is no name of a header", header.key))?;
        let mut value = HeaderValue::try_from(&header.value)
            .map_err(|_| format!("headers: the value of {name} cannot be sent"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Whether it is secure, host and port; `None` for what is no address of a web server.
fn origin(uri: &Uri) -> Option<(bool, String, u16)> {
    let secure = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?;
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    Some((secure, host.to_ascii_lowercase(), port))
}

/// Where a redirect leads: a whole address, one without its scheme, or a path on the same server.
fn redirected(from: &Uri, location: &HeaderValue) -> Result<Uri, String> {
    let unreadable = || format!("{from} redirects to something that is no address");
    let text = location.to_str().map_err(|_| unreadable())?;
    let target = match (text.starts_with("//"), from.scheme_str()) {
        (true, Some(scheme)) => format!("{scheme}:{text}").parse(),
        _ => text.parse(),
    };
    let target: Uri = target.map_err(|_| unreadable())?;
    if target.scheme().is_some() {
        return Ok(target);
    }
    let mut parts = from.clone().into_parts();
    let path = target.path_and_query().cloned();
    parts.path_and_query = path.filter(|path| path.as_str().starts_with('/'));
    if parts.path_and_query.is_none() || target.authority().is_some() {
        return Err(unreadable());
    }
    Uri::from_parts(parts).map_err(|_| unreadable())
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, HeaderMap, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |e: hyper::Error| e.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, CAP_BYTES).collect().await;
        let body = body.map_err(|e| format!("the answer could not be read: {e}"))?;
        Ok((head.status, head.headers, body.to_bytes()))
    };
    // The connection is driven here and ends with the exchange: nothing is left behind when the deadline cuts it.
    tokio::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        end = &mut connection => {
            end.map_err(failed)?;
            exchange.await
        }
    }
}

#[cfg(test)]
mod tests;
