//! What every command gets: the state directory, the server to speak to, the namespace and the printer.

use std::path::Path;
use std::time::Duration;

use serin_api::units::{DURATION_EXPECTED, parse_duration_text};

use crate::client::{Client, ClientError, KubeconfigChoice};
use crate::home::{DirVariables, Home, HomeError};
use crate::printer::Printer;
use crate::rollout::Look;

/// What every command gets.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The state directory.
    pub(crate) home: Home,
    /// Where the address of the API comes from.
    pub(crate) kubeconfig: KubeconfigChoice,
    /// `-n`; without it, what the kubeconfig says.
    pub(crate) namespace: Option<String>,
    /// Where to write.
    pub(crate) printer: Printer,
}

impl Context {
    /// From the global options and the environment.
    pub(crate) fn new(
        home: Option<&Path>,
        kubeconfig: Option<&Path>,
        namespace: Option<String>,
        printer: Printer,
    ) -> Result<Self, HomeError> {
        let home_by_flag = home.is_some();
        let home = Home::resolve(home, &DirVariables::of_process())?;
        let kubeconfig = KubeconfigChoice::new(
            kubeconfig,
            home_by_flag,
            std::env::var_os("KUBECONFIG").as_deref(),
            home.kubeconfig(),
            std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        );
        Ok(Self {
            home,
            kubeconfig,
            namespace,
            printer,
        })
    }

    /// The server to speak to.
    pub(crate) async fn client(&self) -> Result<Client, ClientError> {
        Client::connect(&self.kubeconfig, self.namespace.as_deref()).await
    }

    /// How drawings may look where the result appears.
    pub(crate) fn look(&self) -> Look {
        let (columns, _) = self.printer.size();
        Look {
            colours: self.printer.has_colours(),
            unicode: locale_has_unicode(|name| std::env::var(name).ok()),
            columns,
        }
    }
}

/// False only where the locale names another character set; an empty environment says nothing.
fn locale_has_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let named = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(|name| variable(name))
        .find(|value| !value.is_empty());
    named.is_none_or(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// A limit of a wait: `0`, `90`, `90s`, `10m`.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    parse_duration_text(text)
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| DURATION_EXPECTED.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_character_set_takes_the_lines_away() {
        let with =
            |locale: &str| locale_has_unicode(|name| (name == "LANG").then(|| locale.to_owned()));
        assert!(with("de_DE.UTF-8"));
        assert!(with(""));
        assert!(!with("C"));
        assert!(with("C.utf8"));
    }

    #[test]
    fn a_timeout_is_a_duration() {
        assert_eq!(parse_timeout("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_timeout("10m"), Ok(Duration::from_secs(600)));
        assert!(parse_timeout("soon").is_err());
    }
}
