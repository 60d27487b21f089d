//! Which form of an answer the client wants, from its `Accept` header.

use http::{HeaderMap, header};

use crate::status::Refusal;

/// The form of objects in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The objects themselves.
    Plain,
    /// Rows for a person.
    Table,
    /// Only type and metadata.
    Metadata,
}

/// The form of discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiscoveryView {
    Legacy,
    V2Beta1,
    V2,
}

/// One media range with its parameters.
struct Range<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Range<'_> {
    fn get(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(n, _)| *n == name);
        found.map_or("", |(_, value)| value)
    }

    fn is_json(&self) -> bool {
        matches!(self.media, "application/json" | "application/*" | "*/*")
    }
}

const SUPPORTED: &[&str] = &["application/json"];

/// The first form that the client names and we have.
pub(crate) fn view(headers: &HeaderMap) -> Result<View, Refusal> {
    let text = accept(headers);
    let found = ranges(&text).find_map(|range| {
        let meta = range.get("g") == "meta.k8s.io" && matches!(range.get("v"), "v1" | "v1beta1");
        match range.get("as") {
            _ if !range.is_json() => None,
            "" => Some(View::Plain),
            "Table" if meta => Some(View::Table),
            "PartialObjectMetadata" | "PartialObjectMetadataList" if meta => Some(View::Metadata),
            _ => None,
        }
    });
    found.ok_or_else(|| Refusal::not_acceptable(SUPPORTED))
}

/// The first form of discovery that the client names and we have; the plain one unless another is asked for.
pub(crate) fn discovery(headers: &HeaderMap) -> DiscoveryView {
    let text = accept(headers);
    let found = ranges(&text).filter(Range::is_json).find_map(|range| {
        match (range.get("g"), range.get("v"), range.get("as")) {
            ("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList") => Some(DiscoveryView::V2),
            ("apidiscovery.k8s.io", "v2beta1", "APIGroupDiscoveryList") => {
                Some(DiscoveryView::V2Beta1)
            }
            (_, _, "") => Some(DiscoveryView::Legacy),
            _ => None,
        }
    });
    found.unwrap_or(DiscoveryView::Legacy)
}

fn accept(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::ACCEPT).iter();
    let values: Vec<&str> = values.filter_map(|v| v.to_str().ok()).collect();
    if values.is_empty() {
        "*/*".to_owned()
    } else {
        values.join(",")
    }
}

fn ranges(accept: &str) -> impl Iterator<Item = Range<'_>> {
    accept.split(',').map(|range| {
        let mut parts = range.split(';').map(str::trim);
        Range {
            media: parts.next().unwrap_or_default(),
            parameters: parts.filter_map(|p| p.split_once('=')).collect(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())])
    }

    #[test]
    fn views() {
        let table = [
            ("application/json", Some(View::Plain)),
            ("*/*", Some(View::Plain)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Some(View::Table),
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some(View::Metadata),
            ),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some(View::Plain),
            ),
            ("application/json;as=Table;v=v9;g=meta.k8s.io", None),
            ("application/vnd.kubernetes.protobuf", None),
        ];
        for (accept, want) in table {
            assert_eq!(view(&headers(accept)).ok(), want, "{accept}");
        }
        assert_eq!(view(&HeaderMap::new()).ok(), Some(View::Plain));
    }

    #[test]
    fn discovery_views() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        let table = [
            (format!("{v2},{beta},application/json"), DiscoveryView::V2),
            (format!("{beta},application/json"), DiscoveryView::V2Beta1),
            ("application/json".to_owned(), DiscoveryView::Legacy),
            (
                "application/json;as=Other".to_owned(),
                DiscoveryView::Legacy,
            ),
        ];
        for (accept, want) in table {
            assert_eq!(discovery(&headers(&accept)), want, "{accept}");
        }
    }
}
