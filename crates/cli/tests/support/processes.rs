//! The processes of the machine, and what of them shows whose they are.

use std::path::PathBuf;

/// A process, as `/proc` shows it.
pub struct Process {
    pub pid: i32,
    /// Its command line, with spaces between the arguments.
    pub command: String,
    environment: String,
    /// Where it works.
    pub directory: PathBuf,
}

impl Process {
    /// All of them but this one. What is not shown of one, as it is another user's or has ended, is empty.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = std::process::id().to_string();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(move |entry| {
            let name = entry.file_name().into_string().ok()?;
            let pid = name.parse().ok().filter(|_| name != own)?;
            let read = |name| {
                let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            Some(Self {
                pid,
                command: read("cmdline"),
                environment: read("environ"),
                directory: std::fs::read_link(entry.path().join("cwd")).unwrap_or_default(),
            })
        })
    }

    /// Whether a text is in its command line, its environment or its working directory.
    pub fn has_trace(&self, text: &str) -> bool {
        self.command.contains(text)
            || self.environment.contains(text)
            || self.directory.to_string_lossy().contains(text)
    }
}
