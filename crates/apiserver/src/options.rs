//! The query parameters and the bodies that say how a request is done.

use std::time::Duration;

use axum::extract::Query;
use http::{HeaderMap, Uri, header};
use serde_json::Value;
use serin_api::{FieldPath, Problem};

use crate::resource::Resource;
use crate::selector::{FieldSelector, LabelSelector, Selector};
use crate::status::Refusal;
use crate::tree::Tree;

/// A watch without a timeout of its own ends after this, and its client starts the next.
const WATCH_DEFAULT: Duration = Duration::from_secs(30 * 60);
const WATCH_LONGEST: Duration = Duration::from_secs(60 * 60);

/// In a continue key: the list goes on in the present state.
const PRESENT: &str = "now";

/// The parameters behind the `?`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, Refusal> {
        let parsed = Query::<Vec<(String, String)>>::try_from_uri(uri);
        parsed
            .map(|q| Self(q.0))
            .map_err(|e| Refusal::bad_request(e.body_text()))
    }

    /// The value of a parameter; `None` when absent or empty, which Kubernetes does not tell apart.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of a parameter that may be there several times, in their order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.0.iter().filter(move |(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on: `1`, `true`, or there with no value.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        let found = self.0.iter().find(|(n, _)| n == name);
        found.is_some_and(|(_, v)| !matches!(v.as_str(), "0" | "false" | "False" | "FALSE" | "f"))
    }

    /// A whole number from 0.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let number = |text: &str| {
            text.parse().map_err(|_| {
                Refusal::bad_request(format!(
                    "{name}: Invalid value: {text:?}: must be a whole number from 0"
                ))
            })
        };
        self.get(name).map(number).transpose()
    }
}

/// What a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) selector: Selector,
    /// 0: no limit.
    pub(crate) limit: u64,
    pub(crate) continue_: Option<Continue>,
    /// `None` when absent.
    pub(crate) version: Option<u64>,
    pub(crate) exact: bool,
    pub(crate) watch: bool,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
    pub(crate) timeout: Duration,
}

impl ListOptions {
    pub(crate) fn parse(parameters: &Parameters, kind: &Resource) -> Result<Self, Refusal> {
        let text = |name| parameters.get(name).unwrap_or_default();
        let labels = LabelSelector::parse(text("labelSelector")).map_err(Refusal::bad_request)?;
        let fields =
            FieldSelector::parse(text("fieldSelector"), kind).map_err(Refusal::bad_request)?;
        let timeout = parameters
            .number("timeoutSeconds")?
            .map(Duration::from_secs);
        let initial = parameters
            .get("sendInitialEvents")
            .map(|_| parameters.is_on("sendInitialEvents"));
        let watch = parameters.is_on("watch");
        let exact = Match::parse(parameters, watch, initial.is_some())?.is_exact(parameters);
        Ok(Self {
            selector: Selector { labels, fields },
            limit: parameters.number("limit")?.unwrap_or(0),
            continue_: parameters
                .get("continue")
                .map(Continue::parse)
                .transpose()?,
            version: parameters.number("resourceVersion")?,
            exact,
            watch,
            bookmarks: parameters.is_on("allowWatchBookmarks"),
            initial_events: initial,
            timeout: timeout.map_or(WATCH_DEFAULT, |t| {
                t.clamp(Duration::from_secs(1), WATCH_LONGEST)
            }),
        })
    }
}

/// How `resourceVersion` of a list is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Unset,
    Exact,
    NotOlderThan,
}

impl Match {
    /// Reads `resourceVersionMatch`, and refuses what does not go together with it.
    fn parse(parameters: &Parameters, watch: bool, initial: bool) -> Result<Self, Refusal> {
        const NAME: &str = "resourceVersionMatch";
        let refuse = |problem: Problem| Err(Refusal::list_options(&problem));
        let forbidden = |why: &str| refuse(Problem::forbidden(FieldPath::new(NAME), why));
        let found = match parameters.get(NAME) {
            None => Self::Unset,
            Some("Exact") => Self::Exact,
            Some("NotOlderThan") => Self::NotOlderThan,
            Some(other) => {
                let known = ["Exact", "NotOlderThan"];
                let path = FieldPath::new(NAME);
                return refuse(Problem::not_supported(path, other, &known));
            }
        };
        let version = parameters.get("resourceVersion");
        let continues = parameters.get("continue").is_some();
        if watch {
            return match (found, initial) {
                (Self::NotOlderThan, true) | (Self::Unset, false) => Ok(found),
                (_, true) => forbidden(
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ),
                (_, false) => forbidden(
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ),
            };
        }
        if initial {
            let path = FieldPath::new("sendInitialEvents");
            let why = "sendInitialEvents is forbidden for list";
            return refuse(Problem::forbidden(path, why));
        }
        if continues && version.is_some_and(|v| v != "0") {
            let why = "specifying resource version is not allowed when using continue";
            return Err(Refusal::bad_request(why));
        }
        match (found, version) {
            (Self::Unset, _) => Ok(found),
            (_, None) => {
                forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided")
            }
            _ if continues => {
                forbidden("resourceVersionMatch is forbidden when continue is provided")
            }
            (Self::Exact, Some("0")) => {
                forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
            }
            _ => Ok(found),
        }
    }

    /// Whether the list is of that very version. Without a word, a list in pages is.
    fn is_exact(self, parameters: &Parameters) -> bool {
        self == Self::Exact || self == Self::Unset && parameters.get("limit").is_some()
    }
}

/// Where the next page of a list starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Continue {
    /// The version of the first page, whose state all pages tell of; `None`: the present state.
    pub(crate) version: Option<u64>,
    /// The key of the last object that was told.
    pub(crate) after: String,
}

impl Continue {
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let parts = text
            .strip_prefix("v1:")
            .and_then(|rest| rest.split_once(':'));
        let parsed = parts.and_then(|(version, after)| {
            let version = match version {
                PRESENT => None,
                number => Some(number.parse().ok()?),
            };
            Some((version, after.to_owned()))
        });
        let (version, after) =
            parsed.ok_or_else(|| Refusal::bad_request("continue key is not valid"))?;
        Ok(Self { version, after })
    }

    /// The same place in the present state.
    pub(crate) fn in_present(&self) -> Self {
        Self {
            version: None,
            after: self.after.clone(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let version = self.version.map(|version| version.to_string());
        let version = version.as_deref().unwrap_or(PRESENT);
        format!("v1:{version}:{}", self.after)
    }
}

/// What is done with fields that the kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// How a write is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) fields: FieldValidation,
    /// What the client calls itself: `fieldManager`, or the start of its user agent.
    pub(crate) manager: String,
    /// Whether the client has said so itself.
    pub(crate) is_named: bool,
    pub(crate) force: bool,
}

/// The longest name of a manager.
const MANAGER_LENGTH: usize = 128;

impl WriteOptions {
    pub(crate) fn parse(parameters: &Parameters, headers: &HeaderMap) -> Result<Self, Refusal> {
        let fields = match parameters.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                let why = format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Warn\", \"Strict\""
                );
                return Err(Refusal::bad_request(why));
            }
        };
        Ok(Self {
            dry_run: dry_run(parameters.get("dryRun"))?,
            fields,
            manager: manager(parameters.get("fieldManager"), headers)?,
            is_named: parameters.get("fieldManager").is_some(),
            force: parameters.is_on("force"),
        })
    }
}

fn manager(named: Option<&str>, headers: &HeaderMap) -> Result<String, Refusal> {
    let Some(name) = named else {
        let agent = headers
            .get(header::USER_AGENT)
            .and_then(|a| a.to_str().ok());
        let name = agent.and_then(|a| a.split('/').next()).unwrap_or_default();
        let name: String = name.chars().take(MANAGER_LENGTH).collect();
        return Ok(if name.is_empty() {
            "unknown".into()
        } else {
            name
        });
    };
    if name.len() > MANAGER_LENGTH || name.chars().any(char::is_control) {
        let why = format!(
            "fieldManager: Invalid value: {name:?}: may have {MANAGER_LENGTH} bytes, all of them printable"
        );
        return Err(Refusal::bad_request(why));
    }
    Ok(name.to_owned())
}

fn dry_run(value: Option<&str>) -> Result<bool, Refusal> {
    match value {
        None => Ok(false),
        Some("All") => Ok(true),
        Some(other) => Err(Refusal::bad_request(format!(
            "dryRun: Unsupported value: {other:?}: supported values: \"All\""
        ))),
    }
}

/// What becomes of the objects that a deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// How a delete is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    /// Seconds; `None`: what the object says.
    pub(crate) grace: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
}

impl DeleteOptions {
    /// From the body, where the query adds what the body leaves open.
    pub(crate) fn parse(parameters: &Parameters, body: Option<&Value>) -> Result<Self, Refusal> {
        let body = body.unwrap_or(&Value::Null);
        let query_grace = parameters
            .number("gracePeriodSeconds")?
            .map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let propagation = body
            .at("/propagationPolicy")
            .as_str()
            .or_else(|| parameters.get("propagationPolicy"));
        let propagation = match (propagation, body.at("/orphanDependents").as_bool()) {
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (None, None) => None,
            (Some(other), _) => {
                let why = format!(
                    "propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
                );
                return Err(Refusal::bad_request(why));
            }
        };
        let conditions = body.at("/preconditions");
        let text = |name: &str| conditions[name].as_str().map(str::to_owned);
        Ok(Self {
            dry_run: dry_run(
                body.at("/dryRun/0")
                    .as_str()
                    .or_else(|| parameters.get("dryRun")),
            )?,
            grace: body.at("/gracePeriodSeconds").as_i64().or(query_grace),
            propagation,
            uid: text("uid"),
            version: text("resourceVersion"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parameters(query: &str) -> Parameters {
        Parameters::parse(&format!("/x?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn switches_and_numbers() {
        let p = parameters("watch=true&a=0&b&limit=5&c=&bad=-1");
        assert!(p.is_on("watch") && p.is_on("b") && !p.is_on("a") && !p.is_on("absent"));
        assert_eq!(p.number("limit").unwrap(), Some(5));
        assert_eq!(p.number("c").unwrap(), None);
        assert!(p.number("bad").is_err());
    }

    #[test]
    fn delete_options_of_body_and_query() {
        let body = json!({"propagationPolicy": "Foreground", "preconditions": {"uid": "u"}, "dryRun": ["All"]});
        let options =
            DeleteOptions::parse(&parameters("gracePeriodSeconds=0"), Some(&body)).unwrap();
        assert_eq!((options.grace, options.dry_run), (Some(0), true));
        assert_eq!(
            (options.propagation, options.uid.as_deref()),
            (Some(Propagation::Foreground), Some("u"))
        );
        assert!(DeleteOptions::parse(&parameters("propagationPolicy=Later"), None).is_err());
    }

    #[test]
    fn continue_keys_come_back() {
        let key = Continue {
            version: Some(7),
            after: "apps/deployments/default/web".into(),
        };
        assert_eq!(Continue::parse(&key.text()).unwrap(), key);
        assert!(Continue::parse("nonsense").is_err());
    }
}
