//! Finds programs and starts them, with errors that name the path.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::wire::{Spec, Streams};

/// A started application with the reading ends of its output.
pub(super) struct Started {
    pub(super) pid: Pid,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Starts the application of a spec as the leader of a new process group.
pub(super) fn start(spec: &Spec) -> Result<Started, String> {
    let (stdout, stdout_writer) = pipe()?;
    let (stderr, stderr_writer) = pipe()?;
    let streams = [Stdio::null(), stdout_writer.into(), stderr_writer.into()];
    let child = spawn(spec, &spec.argv, streams, false)?;
    Ok(Started {
        pid: pid_of(&child)?,
        stdout,
        stderr,
    })
}

/// Starts a command beside the application; gives the reading end of its output, both streams in one.
pub(super) fn start_beside(spec: &Spec, argv: &[String]) -> Result<(Pid, OwnedFd), String> {
    let (output, writer) = pipe()?;
    let second = writer
        .try_clone()
        .map_err(|e| format!("cannot copy a pipe: {e}"))?;
    let streams = [Stdio::null(), writer.into(), second.into()];
    let child = spawn(spec, argv, streams, false)?;
    Ok((pid_of(&child)?, output))
}

/// Starts a command beside the application, with the streams of whoever wants to talk with it.
pub(super) fn start_conversation(
    spec: &Spec,
    argv: &[String],
    streams: &Streams,
) -> Result<Pid, String> {
    let child = match streams {
        Streams::Pipes {
            stdin,
            stdout,
            stderr,
        } => {
            let stdin = match stdin {
                Some(path) => File::open(path).map(Stdio::from),
                None => Ok(Stdio::null()),
            };
            let writer = |path: &String| File::options().write(true).open(path).map(Stdio::from);
            let open = || Ok([stdin?, writer(stdout)?, writer(stderr)?]);
            let streams = open().map_err(|e: io::Error| format!("cannot open a pipe: {e}"))?;
            spawn(spec, argv, streams, false)?
        }
        Streams::Terminal { path } => {
            // The shim leads a session without a terminal; this must not become its own.
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let open = || rustix::fs::open(path, flags, Mode::empty()).map(Stdio::from);
            let streams = || Ok([open()?, open()?, open()?]);
            let streams = streams().map_err(|e: Errno| format!("{}: {e}", path.display()))?;
            spawn(spec, argv, streams, true)?
        }
    };
    pid_of(&child)
}

/// The whole of the hidden command `serin terminal PROGRAM NAME ARGUMENTS…`: takes the terminal on its standard input as the one that it
/// controls, so that Ctrl-C reaches what runs in it, and becomes the program. Gives failure when it cannot.
pub fn terminal_main(arguments: &[OsString]) -> ExitCode {
    let [program, name, rest @ ..] = arguments else {
        return ExitCode::FAILURE;
    };
    // Without control over its terminal the program still runs; it only hears no signals from it.
    let _ = rustix::process::setsid();
    let _ = rustix::process::ioctl_tiocsctty(std::io::stdin());
    let error = Command::new(program).arg0(name).args(rest).exec();
    let _ = writeln!(io::stderr(), "exec {}: {error}", program.display());
    ExitCode::from(126)
}

/// A pipe whose reading end never blocks.
fn pipe() -> Result<(OwnedFd, OwnedFd), String> {
    let make = || -> rustix::io::Result<(OwnedFd, OwnedFd)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok((reader, writer))
    };
    make().map_err(|e| format!("cannot make a pipe: {e}"))
}

fn pid_of(child: &Child) -> Result<Pid, String> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| format!("the system gave the process number {}", child.id()))
}

fn spawn(
    spec: &Spec,
    argv: &[String],
    [stdin, stdout, stderr]: [Stdio; 3],
    terminal: bool,
) -> Result<Child, String> {
    let Some((name, args)) = argv.split_first() else {
        return Err("there is no program to run: command is empty".into());
    };
    if !spec.cwd.is_dir() {
        return Err(format!(
            "workingDir {} is no directory of this machine",
            spec.cwd.display()
        ));
    }
    let path = spec
        .env
        .iter()
        .rfind(|(name, _)| name == "PATH")
        .map_or("", |(_, value)| value.as_str());
    let program = find(name, path, &spec.cwd)?;
    let mut command = if terminal {
        // It leads a session of its own, which the leader of a process group cannot come to.
        let mut command = Command::new("/proc/self/exe");
        command.arg("terminal").arg(&program).arg(name);
        command
    } else {
        let mut command = Command::new(&program);
        command.arg0(name).process_group(0);
        command
    };
    command
        .args(args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.cwd)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|e| format!("exec {}: {e}", program.display()))
}

/// Finds a program as `execvp` does: by its path when it has a slash, else in the directories of `path`.
fn find(name: &str, path: &str, cwd: &Path) -> Result<PathBuf, String> {
    if name.is_empty() {
        return Err("there is no program to run: its name is empty".into());
    }
    if name.contains('/') {
        let program = cwd.join(name);
        return executable(&program)
            .map(|()| program.clone())
            .map_err(|e| format!("exec {}: {e}", program.display()));
    }
    let mut refused = None;
    for dir in std::env::split_paths(OsStr::new(path)) {
        let program = cwd.join(dir).join(name);
        match executable(&program) {
            Ok(()) => return Ok(program),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                refused.get_or_insert_with(|| format!("exec {}: {e}", program.display()));
            }
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        format!("exec {name}: no such program in PATH ({path}): No such file or directory")
    }))
}

fn executable(program: &Path) -> io::Result<()> {
    let metadata = fs::metadata(program)?;
    if metadata.is_dir() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(
            rustix::io::Errno::ACCESS.raw_os_error(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_execvp_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("run.sh");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let here = dir.path();
        let path = here.to_str().unwrap();
        assert_eq!(
            find("run.sh", path, here).unwrap_err(),
            format!("exec {}: Permission denied (os error 13)", script.display())
        );
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("run.sh", path, Path::new("/")).unwrap(), script);
        assert_eq!(find("./run.sh", "", here).unwrap(), here.join("./run.sh"));
        assert_eq!(
            find("run", "/nowhere", here).unwrap_err(),
            "exec run: no such program in PATH (/nowhere): No such file or directory"
        );
        assert_eq!(
            find("/no/such", path, here).unwrap_err(),
            "exec /no/such: No such file or directory (os error 2)"
        );
        assert!(find(path, path, here).is_err());
        assert!(find("", path, here).is_err());
    }
}
