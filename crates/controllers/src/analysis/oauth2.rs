//! How we say who we are to a server of metrics.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use serin_api::analysis::{Authentication, OAuth2};

use super::http::{Call, Fetcher};

/// Adds to the headers what an authentication asks for.
///
/// # Errors
/// A sentence for the person, with no credential in it.
pub(super) async fn authenticate(
    fetcher: &Fetcher,
    asked: Option<&Authentication>,
    call: &mut Call,
) -> Result<(), String> {
    let Some(asked) = asked else { return Ok(()) };
    if let Some(basic) = &asked.basic_auth {
        let value = basic_value(&basic.username, &basic.password)?;
        call.headers.insert(header::AUTHORIZATION, value);
    }
    if let Some(oauth2) = &asked.oauth2 {
        let token = token(fetcher, oauth2, call).await;
        let token = token.map_err(|why| format!("no token of {}: {why}", oauth2.token_url))?;
        let value = secret_value(&format!("Bearer {token}"))?;
        call.headers.insert(header::AUTHORIZATION, value);
    }
    Ok(())
}

fn basic_value(user: &str, password: &str) -> Result<HeaderValue, String> {
    secret_value(&format!(
        "Basic {}",
        STANDARD.encode(format!("{user}:{password}"))
    ))
}

fn secret_value(text: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| "the credential cannot be sent".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

fn form(scopes: &[String]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !scopes.is_empty() {
        form.append_pair("scope", &scopes.join(" "));
    }
    form.finish()
}

/// A token for client credentials (RFC 6749, section 4.4), from a server that is trusted as the one with the metrics.
async fn token(fetcher: &Fetcher, oauth2: &OAuth2, call: &Call) -> Result<String, String> {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let (id, secret) = (encoded(&oauth2.client_id), encoded(&oauth2.client_secret));
    headers.insert(header::AUTHORIZATION, basic_value(&id, &secret)?);
    let asked = Call {
        method: Method::POST,
        uri: oauth2
            .token_url
            .parse()
            .map_err(|_| "tokenUrl is no address".to_owned())?,
        headers,
        body: Bytes::from(form(&oauth2.scopes)),
        ..call.clone()
    };
    let (status, body) = fetcher.fetch(asked).await?;
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    let token: Token =
        serde_json::from_slice(&body).map_err(|_| "its answer has no access_token".to_owned())?;
    Ok(token.access_token)
}
