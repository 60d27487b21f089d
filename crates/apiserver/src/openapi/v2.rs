//! As much of the OpenAPI v2 document as kubectl up to 1.28 looks for before it writes: per kind a PATCH that knows
//! `fieldValidation`. It asks for it in protobuf only, so this writes that by hand.
//!
//! The numbers are those of `openapi.v2.Document` in gnostic's `OpenAPIv2.proto`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderValue};

use serin_api::kinds::Keeping;

use crate::registry::Registry;
use crate::resource::Resource;
use crate::server::ApiServer;
use crate::status::Refusal;

const ASKED_FOR: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// As Kubernetes answers it: an `@` may not stand in a media type.
const ANSWERED: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/openapi/v2`, to those who ask for it in protobuf; newer clients go on without it.
pub(crate) async fn document(State(server): State<ApiServer>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok());
    if !accept.is_some_and(|a| a.contains(ASKED_FOR)) {
        return Refusal::no_page().into_response();
    }
    let media = HeaderValue::from_static(ANSWERED);
    ([(header::CONTENT_TYPE, media)], make(&server.registry)).into_response()
}

fn make(registry: &Registry) -> Vec<u8> {
    let info = [text(1, "Serin"), text(2, env!("CARGO_PKG_VERSION"))].concat();
    let paths: Vec<u8> = registry
        .all()
        .iter()
        .filter(|k| k.keeping() == Keeping::Kept)
        .flat_map(|k| field(2, &path(k)))
        .collect();
    [
        text(1, "2.0"),
        field(2, &info),
        field(8, &paths),
        field(9, &[]),
    ]
    .concat()
}

/// A `NamedPathItem`.
fn path(kind: &Resource) -> Vec<u8> {
    let name = format!("/{}/{}/{{name}}", kind.api_version(), kind.plural);
    let query = [
        text(2, "query"),
        text(4, "fieldValidation"),
        text(6, "string"),
    ]
    .concat();
    let parameter = field(1, &field(2, &field(3, &query)));
    let yaml = format!(
        "group: {:?}\nkind: {}\nversion: {}\n",
        kind.group, kind.kind, kind.version
    );
    let extension = [
        text(1, "x-kubernetes-group-version-kind"),
        field(2, &text(2, &yaml)),
    ];
    let patch = [field(8, &parameter), field(13, &extension.concat())].concat();
    [text(1, &name), field(2, &field(8, &patch))].concat()
}

fn text(number: u8, text: &str) -> Vec<u8> {
    field(number, text.as_bytes())
}

/// A field with a length: text, or a message in a message. Numbers are below 16.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    const LENGTH_DELIMITED: u8 = 2;
    let mut bytes = vec![number << 3 | LENGTH_DELIMITED];
    let mut length = content.len();
    loop {
        let low = length.to_le_bytes()[0] & 0x7f;
        length >>= 7;
        if length == 0 {
            bytes.push(low);
            break;
        }
        bytes.push(low | 0x80);
    }
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_groups_of_seven_bits() {
        assert_eq!(field(1, b"ab"), b"\x0a\x02ab");
        assert_eq!(&field(2, &[7; 300])[..4], b"\x12\xac\x02\x07");
    }
}
