//! The one place that writes to the terminal: results to stdout, progress and problems to stderr, colours only where a
//! person looks.
//!
//! A reader that goes away (`serin get pods | head -1`) ends the command quietly: [`PrintError::ReaderGone`].

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};

/// Columns of a text that no terminal shows: nothing is ever cut there.
const UNBOUNDED_COLUMNS: usize = usize::MAX;

/// Writes for one command.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Printer {
    quiet: bool,
}

/// Why nothing more can be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrintError {
    /// Nobody reads any more; not worth a word.
    #[error("the reader of the output is gone")]
    ReaderGone,
    /// Anything else, such as a full disk behind `>`.
    #[error("cannot write the output")]
    Io(#[source] io::Error),
}

impl From<io::Error> for PrintError {
    fn from(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            Self::ReaderGone
        } else {
            Self::Io(source)
        }
    }
}

/// Words that catch the eye.
pub(crate) mod style {
    use super::{AnsiColor, Style};

    /// What went wrong.
    pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
    /// What may go wrong.
    pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
    /// What to do about it.
    pub(crate) const HINT: Style = AnsiColor::Cyan.on_default().bold();
}

impl Printer {
    /// A printer that says nothing but results, warnings and errors.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// One line of the result.
    pub(crate) fn result(self, line: impl std::fmt::Display) -> Result<(), PrintError> {
        let mut out = anstream::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
        Ok(())
    }

    /// A piece of the result as it is, such as a log.
    pub(crate) fn raw(self, bytes: &[u8]) -> Result<(), PrintError> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
        Ok(())
    }

    /// What is being done. A failure to say so is no failure.
    pub(crate) fn progress(self, line: impl std::fmt::Display) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr().lock(), "{line}");
        }
    }

    /// What the person should know.
    pub(crate) fn warning(self, line: impl std::fmt::Display) {
        let (on, off) = (style::WARNING.render(), style::WARNING.render_reset());
        let _ = writeln!(anstream::stderr().lock(), "{on}warning:{off} {line}");
    }

    /// What went wrong.
    pub(crate) fn error(self, line: impl std::fmt::Display) {
        let (on, off) = (style::ERROR.render(), style::ERROR.render_reset());
        let _ = writeln!(anstream::stderr().lock(), "{on}error:{off} {line}");
    }

    /// What to do about it.
    pub(crate) fn hint(self, line: impl std::fmt::Display) {
        let (on, off) = (style::HINT.render(), style::HINT.render_reset());
        let _ = writeln!(anstream::stderr().lock(), "{on}hint:{off} {line}");
    }

    /// Whether a person looks at the result.
    pub(crate) fn is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }

    /// Whether the result may have colours.
    pub(crate) fn has_colours(self) -> bool {
        anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
    }

    /// Columns and rows of the place where the result appears; no rows where no terminal shows it.
    pub(crate) fn size(self) -> (usize, Option<usize>) {
        if !self.is_terminal() {
            return (UNBOUNDED_COLUMNS, None);
        }
        match rustix::termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 => {
                (usize::from(size.ws_col), Some(usize::from(size.ws_row)))
            }
            _ => (UNBOUNDED_COLUMNS, None),
        }
    }
}
