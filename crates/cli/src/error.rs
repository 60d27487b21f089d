//! Turns whatever went wrong into what a person needs: a message, what to do about it, and an exit code.
//!
//! The parts of the program say what happened in their own error types; remedies and exit codes are chosen here and nowhere
//! else. `docs/cli.md` has the same table of exit codes; a test keeps the two together.

use std::fmt;
use std::process::ExitCode;

use serin_apiserver::StoreError;

use crate::client::{ClientError, KubeconfigError};
use crate::home::HomeError;
use crate::platform::{CredentialsError, ImagesError, LockError, PlatformError};
use crate::printer::{PrintError, Printer};

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Done = 0,
    /// It could not be done, or a wait reached its `--timeout`.
    Failed = 1,
    /// The release failed: it was taken back, or it does not get on.
    TakenBack = 2,
    /// The command line is wrong.
    Usage = 64,
    /// A manifest has errors; nothing was applied.
    Manifest = 65,
    /// The API cannot be reached.
    Unreachable = 69,
    /// The state directory cannot be used: not writable, disk full, path too long.
    Home = 73,
    /// The state file cannot be read.
    State = 74,
    /// Somebody else has the state directory or the port.
    Busy = 75,
}

/// The table of exit codes as the long help and the documentation show it.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   done; for `rollout status`: healthy
  1   failed, or a wait reached its --timeout
  2   the release failed: it was taken back, or it does not get on
  64  the command line is wrong
  65  a manifest has errors; nothing was applied
  69  the API cannot be reached
  73  the state directory cannot be used (not writable, disk full, path too long)
  74  the state file is corrupt or from another version
  75  another `serin up` has the state directory, or another program has the port";

/// What a person is told, and how the process ends.
#[derive(Debug)]
pub(crate) struct CliError {
    exit: Exit,
    message: String,
    hints: Vec<String>,
    silent: bool,
}

impl CliError {
    /// Ends with [`Exit::Failed`].
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Ends with a code of the caller's choice.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hints: Vec::new(),
            silent: false,
        }
    }

    /// Ends with a code and without a word: what is to be said has been said.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self {
            silent: true,
            ..Self::new(exit, String::new())
        }
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says it, and gives the exit code.
    pub(crate) fn report(&self, printer: Printer) -> ExitCode {
        if !self.silent {
            printer.error(&self.message);
            for hint in &self.hints {
                printer.hint(hint);
            }
        }
        self.exit.into()
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The message and those of its sources, each once: `cannot write /x: Permission denied`.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

impl From<PrintError> for CliError {
    fn from(error: PrintError) -> Self {
        match error {
            PrintError::ReaderGone => Self::silent(Exit::Done),
            PrintError::Io(_) => Self::failed(chain(&error)),
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Kubeconfig(KubeconfigError::NoPlatform { .. }) => {
                Self::new(Exit::Unreachable, chain(&error))
                    .hint("start one with `serin up`, or name another with --home or --kubeconfig")
            }
            ClientError::Kubeconfig(
                KubeconfigError::Unusable { .. } | KubeconfigError::ServiceAccount(_),
            ) => Self::new(Exit::Unreachable, chain(&error)),
            ClientError::Unreachable { server, source } => Self::new(
                Exit::Unreachable,
                format!("cannot reach the API at {server}: {}", root_cause(source)),
            )
            .hint("is it running? start it with `serin up`"),
            ClientError::Deadline { .. } => Self::new(Exit::Unreachable, chain(&error))
                .hint("is it stopped or overloaded? its log is in $SERIN_HOME/logs/serin.log"),
            ClientError::Refused(status) => {
                let refused = Self::failed(error.to_string());
                if status.code == Some(401) {
                    refused.hint("the token of the kubeconfig is not this server's; was the state directory made anew?")
                } else {
                    refused
                }
            }
            ClientError::Malformed { .. } => Self::failed(chain(&error)),
        }
    }
}

/// The innermost cause: `Connection refused (os error 111)` says more than the five layers above it.
fn root_cause(error: &anyhow::Error) -> String {
    error.root_cause().to_string()
}

impl From<HomeError> for CliError {
    fn from(error: HomeError) -> Self {
        let text = chain(&error);
        match error {
            HomeError::Unknown => Self::new(Exit::Home, text).hint("name a directory with --home"),
            HomeError::Unwritable { source, .. } => {
                Self::new(Exit::Home, text).hint(write_remedy(&source))
            }
        }
    }
}

impl From<PlatformError> for CliError {
    fn from(error: PlatformError) -> Self {
        let text = chain(&error);
        match error {
            PlatformError::Home(error) => error.into(),
            PlatformError::Lock(LockError::Held { .. }) => Self::new(Exit::Busy, text)
                .hint("use it as it runs, stop it with `serin down`, or name another directory with --home"),
            PlatformError::Lock(LockError::Io { source, .. })
            | PlatformError::Credentials(CredentialsError::Io { source, .. }) => {
                Self::new(Exit::Home, text).hint(write_remedy(&source))
            }
            PlatformError::Credentials(_) | PlatformError::Task(_) | PlatformError::Roles(_) => {
                Self::failed(text)
            }
            PlatformError::Certificate { .. } => {
                Self::new(Exit::Home, text).hint("delete that folder: the keys are made anew on the next start")
            }
            PlatformError::PortInUse { what, .. } => Self::new(Exit::Busy, text).hint(match what {
                "the gateway" => "name another address with --gateway-listen, or start --no-gateway",
                _ => "name another address with --listen; port 0 takes a free one",
            }),
            PlatformError::Listen { .. } => Self::failed(text).hint("name an address of this machine"),
            PlatformError::Store(error) => Self::new(store_exit(&error), text),
        }
    }
}

impl From<ImagesError> for CliError {
    fn from(error: ImagesError) -> Self {
        let text = chain(&error);
        match error {
            ImagesError::Given(_) => Self::new(Exit::Usage, text),
            ImagesError::Corrupt { .. } => Self::new(Exit::Home, text).hint(
                "mend that file, or delete it and give the rules again with `serin up --image NAME=BUNDLE`",
            ),
            ImagesError::Io { source, .. } => Self::new(Exit::Home, text).hint(write_remedy(&source)),
        }
    }
}

impl From<LockError> for CliError {
    fn from(error: LockError) -> Self {
        PlatformError::from(error).into()
    }
}

/// The message of the store already says what to do.
fn store_exit(error: &StoreError) -> Exit {
    match error {
        StoreError::Foreign { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Behind { .. }
        | StoreError::Newer { .. } => Exit::State,
        StoreError::Locked { .. } => Exit::Busy,
        _ => Exit::Home,
    }
}

/// What to do when a file of the state directory cannot be written.
pub(crate) fn write_remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "the disk is full: make room, then start again; nothing was lost"
        }
        std::io::ErrorKind::InvalidFilename => {
            "the path is too long: name a shorter directory with --home"
        }
        _ => "give this user the right to write there, or name another directory with --home",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_exit_code() {
        let table = include_str!("../../../docs/cli.md");
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::TakenBack,
            Exit::Usage,
            Exit::Manifest,
            Exit::Unreachable,
            Exit::Home,
            Exit::State,
            Exit::Busy,
        ] {
            let code = exit as u8;
            assert!(table.contains(&format!("| {code} |")), "{exit:?}");
            assert!(EXIT_CODES.contains(&format!("\n  {code} ")), "{exit:?}");
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = std::io::Error::other("no room");
        let error = HomeError::Unwritable {
            path: "/x".into(),
            source: cause,
        };
        assert_eq!(chain(&error), "cannot write /x: no room");
    }
}
