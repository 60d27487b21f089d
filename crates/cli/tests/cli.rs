//! The real binary with a cleared environment: what it prints, and how it ends.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at what it did not expect"
)]

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use expect_test::{Expect, expect};
use rustix::process::{Pid, Signal, kill_process};

/// How long a command may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of its own for everything that a command could touch.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn serin<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_serin"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path())
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Exit code, stdout and stderr of a command, with this place written as `[HOME]`.
    fn check(&self, arguments: &[&str], expected: &Expect) {
        expected.assert_eq(&self.ran(arguments));
    }

    /// Exit code and output of a command.
    fn ran(&self, arguments: &[&str]) -> String {
        self.told(self.output(arguments))
    }

    fn output(&self, arguments: &[&str]) -> Output {
        ended(self.serin(arguments).spawn().unwrap())
    }

    fn told(&self, output: Output) -> String {
        let place = self.path().display().to_string();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&place, "[HOME]");
        let mut told = format!("exit {}\n", output.status.code().unwrap());
        for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
            if !bytes.is_empty() {
                told.push_str(&format!("--- {name}\n{}", text(bytes)));
            }
        }
        // Blank lines of the help are not always empty, which no literal could show.
        let lines: Vec<&str> = told.lines().map(str::trim_end).collect();
        lines.join("\n") + "\n"
    }
}

/// What a command told, which is killed if it does not end.
fn ended(command: Child) -> Output {
    let pid = Pid::from_child(&command);
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || give.send(command.wait_with_output()));
    let output = take.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let _ = kill_process(pid, Signal::KILL);
        panic!("a command did not end within {PATIENCE:?}")
    });
    output.unwrap()
}

#[test]
fn the_version_is_a_result() {
    Place::new().check(
        &["version"],
        &expect![[r#"
        exit 0
        --- stdout
        serin 0.1.0
    "#]],
    );
    Place::new().check(
        &["--version"],
        &expect![[r#"
        exit 0
        --- stdout
        serin 0.1.0
    "#]],
    );
}

/// Goes through the tree of commands by what the help itself lists.
#[test]
fn the_help_of_every_command_has_an_example() {
    fn visit(place: &Place, command: &[&str]) -> usize {
        let help = place.ran(&[command, &["--help"]].concat());
        let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let listed = lines.take_while(|line| !line.is_empty());
        let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = names.filter_map(|line| line.split_whitespace().next());
        let of_its_own = ["help", "version"];
        let names = names.filter(|name| !of_its_own.contains(name));
        let below = names.map(|name| visit(place, &[command, &[name]].concat()));
        let below: usize = below.sum();
        let has_example = help.contains("Example:\n") || help.contains("Examples:\n");
        assert!(command.is_empty() || has_example, "{command:?}");
        below + 1
    }
    let commands = visit(&Place::new(), &[]);
    assert!(commands > 30, "{commands} commands");
}

#[test]
fn the_help_of_the_gateway_says_what_it_is_for() {
    let help = Place::new().ran(&["gateway", "-h"]);
    let until = help.find("\nOptions:").unwrap();
    expect![[r#"
        exit 0
        --- stdout
        Upgrade the gateway without losing a request, or serve the routes of any cluster

        Usage: serin gateway [OPTIONS] <COMMAND>

        Commands:
          serve    Serve the routes of any cluster until a signal, without a platform and without a keeper
          upgrade  Replace the gateway that serves by the program as it is now on disk, without a refused or
                   cut request
          help     Print this message or the help of the given subcommand(s)
    "#]]
    .assert_eq(&help[..until]);
}

#[test]
fn help_is_a_result_and_has_the_exit_codes() {
    Place::new().check(&["--help"], &expect![[r#"
        exit 0
        --- stdout
        Continuous deployment that never loses a request.

        Serin runs a whole delivery platform on one machine: a Kubernetes API, instances as processes, a
        gateway that splits the requests, and controllers that release in steps and take back by themselves
        what the numbers speak against.

        Usage: serin [OPTIONS] <COMMAND>

        Commands:
          up           Start the platform of the state directory
          down         Stop everything of the state directory: control plane, gateway, instances
          gateway      Upgrade the gateway without losing a request, or serve the routes of any cluster
          backup       Write a copy of all objects into a file, also while the platform runs
          restore      Put the objects of a backup in the place of those of the state directory
          apply        Create the objects of manifests, or change them to what these say
          plan         Show how a release would go, step by step, and change nothing
          get          Show objects of any kind
          delete       Delete objects
          logs         Show what instances have written
          rollout      Look at a release, wait for it, and steer it [alias: ro]
          controller   Look after the Rollouts of any cluster
          crds         Print the CustomResourceDefinitions of our kinds
          install      Print what a cluster needs to run the controllers: definitions, rights and a
                       Deployment
          demo         Show the whole job on one screen: releases under load, one of them bad, and every
                       request accounted for
          load         Send requests at a constant rate and account for every one
          history      Show who has written what, and when
          analyze      Say what the judge of analyses would have said of a recording, or make one
          sim          Release in simulated worlds in which everything goes wrong, and check every rule
          completions  Print a script that completes commands in a shell
          version      Print the version
          help         Print this message or the help of the given subcommand(s)

        Options:
          -h, --help
                  Print help (see a summary with '-h')

          -V, --version
                  Print version

        Global options:
              --home <DIR>
                  The state directory [env: SERIN_HOME] [default: the platform's data directory,
                  ~/.local/share/serin]

              --kubeconfig <FILE>
                  The server to speak to [env: KUBECONFIG] [default: kubeconfig in the state directory]

          -n, --namespace <NAME>
                  The namespace of objects that name none [default: that of the kubeconfig]

          -q, --quiet
                  Say nothing but results, warnings and errors

          -v, --verbose...
                  Log more to stderr; twice for everything [env: SERIN_LOG, in the form of RUST_LOG]

              --color <WHEN>
                  When to use colours

                  Possible values:
                  - auto:   On a terminal, unless NO_COLOR is set
                  - always: Always
                  - never:  Never

                  [default: auto]

        Exit codes:
          0   done; for `rollout status`: healthy
          1   failed, or a wait reached its --timeout
          2   the release failed: it was taken back, or it does not get on
          64  the command line is wrong
          65  a manifest has errors; nothing was applied
          69  the API cannot be reached
          73  the state directory cannot be used (not writable, disk full, path too long)
          74  the state file is corrupt or from another version
          75  another `serin up` has the state directory, or another program has the port
    "#]]);
}

#[test]
fn the_help_of_a_command_has_its_options_and_examples() {
    Place::new().check(&["rollout", "promote", "--help"], &expect![[r#"
        exit 0
        --- stdout
        Go on from a pause, or skip the step under way

        Usage: serin rollout promote [OPTIONS] <NAME>

        Arguments:
          <NAME>
                  NAME (a Rollout, else a Deployment), rollout/NAME or deploy/NAME

        Options:
              --full
                  Skip all steps, analyses and pauses that are left; full availability is still waited for

          -h, --help
                  Print help (see a summary with '-h')

        Global options:
              --home <DIR>
                  The state directory [env: SERIN_HOME] [default: the platform's data directory,
                  ~/.local/share/serin]

              --kubeconfig <FILE>
                  The server to speak to [env: KUBECONFIG] [default: kubeconfig in the state directory]

          -n, --namespace <NAME>
                  The namespace of objects that name none [default: that of the kubeconfig]

          -q, --quiet
                  Say nothing but results, warnings and errors

          -v, --verbose...
                  Log more to stderr; twice for everything [env: SERIN_LOG, in the form of RUST_LOG]

              --color <WHEN>
                  When to use colours

                  Possible values:
                  - auto:   On a terminal, unless NO_COLOR is set
                  - always: Always
                  - never:  Never

                  [default: auto]

        Examples:
          serin rollout promote shop
          serin rollout promote shop --full
    "#]]);
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    Place::new().check(
        &["get"],
        &expect![[r#"
        exit 64
        --- stderr
        error: the following required arguments were not provided:
          <KIND>

        Usage: serin get <KIND> [NAME]

        For more information, try '--help'.
    "#]],
    );
    Place::new().check(&["rollout", "get", "pod/x"], &expect![[r#"
        exit 64
        --- stderr
        error: invalid value 'pod/x' for '<NAME>': "pod" does not roll out; use NAME, rollout/NAME or deploy/NAME

        For more information, try '--help'.
    "#]]);
    Place::new().check(&["up", "--listen", "0.0.0.0:7443"], &expect![[r#"
        exit 64
        --- stderr
        error: --listen 0.0.0.0:7443 needs --tls-san with the name or the address under which the API is reached
    "#]]);
    Place::new().check(&["up", "--image", "nginx"], &expect![[r#"
        exit 64
        --- stderr
        error: "nginx" is no rule for an image; write NAME=BUNDLE or NAME:TAG=BUNDLE, such as nginx=serin.dev/demo
    "#]]);
    Place::new().check(
        &["delete", "pod"],
        &expect![[r#"
        exit 64
        --- stderr
        error: the following required arguments were not provided:
          <NAME>...

        Usage: serin delete <KIND|--filename <FILE|DIR|->> <NAME>...

        For more information, try '--help'.
    "#]],
    );
}

#[test]
fn without_a_platform_there_is_a_remedy() {
    Place::new().check(
        &["get", "pods"],
        &expect![[r#"
        exit 69
        --- stderr
        error: no platform in [HOME]/.local/share/serin
        hint: start one with `serin up`, or name another with --home or --kubeconfig
    "#]],
    );
    Place::new().check(
        &["get", "pods", "--home", "/nowhere"],
        &expect![[r#"
        exit 69
        --- stderr
        error: no platform in /nowhere
        hint: start one with `serin up`, or name another with --home or --kubeconfig
    "#]],
    );
    Place::new().check(
        &["get", "pods", "--kubeconfig", "/nowhere/config"],
        &expect![[r#"
            exit 69
            --- stderr
            error: cannot use the kubeconfig /nowhere/config: failed to read kubeconfig from '"/nowhere/config"': No such file or directory (os error 2)
        "#]],
    );
    Place::new().check(
        &["down"],
        &expect![[r#"
        exit 0
        --- stdout
        nothing runs in [HOME]/.local/share/serin
    "#]],
    );
}

#[test]
fn a_server_that_does_not_answer_is_named() {
    let place = Place::new();
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
        clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n\
        users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n";
    std::fs::write(place.path().join("config"), kubeconfig).unwrap();
    place.check(
        &["get", "pods", "--kubeconfig", "config"],
        &expect![[r#"
        exit 69
        --- stderr
        error: cannot reach the API at http://127.0.0.1:1: Connection refused (os error 111)
        hint: is it running? start it with `serin up`
    "#]],
    );
}

#[test]
fn every_problem_of_a_manifest_is_told_and_nothing_is_done() {
    let place = Place::new();
    let manifest = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replica: 3\n  selector: {}\n\
        ---\nkind: Service\n";
    std::fs::write(place.path().join("app.yaml"), manifest).unwrap();
    place.check(&["apply", "-f", "app.yaml"], &expect![[r#"
        exit 65
        --- stderr
        error: app.yaml:5:1: Deployment/web: spec.template: Required value
        error: app.yaml:6:3: Deployment/web: spec.replica: unknown field, did you mean "replicas"?
        error: app.yaml:7:3: Deployment/web: spec.selector: Invalid value: {}: empty selector is invalid for deployment
        error: app.yaml:9:1: Service: apiVersion: Required value: write v1 for a Service
        error: 4 errors: nothing was done
    "#]]);
    place.check(
        &["apply", "-f", "absent.yaml"],
        &expect![[r#"
        exit 1
        --- stderr
        error: cannot read absent.yaml: No such file or directory (os error 2)
    "#]],
    );
    std::fs::create_dir(place.path().join("empty")).unwrap();
    place.check(
        &["apply", "-f", "empty"],
        &expect![[r#"
        exit 65
        --- stderr
        error: empty: no file that ends in .yaml, .yml or .json
    "#]],
    );
}

#[test]
fn a_manifest_may_come_from_stdin() {
    let place = Place::new();
    let mut command = place.serin(&["apply", "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"kind: [").unwrap();
    let told = place.told(ended(child));
    expect![[r#"
        exit 65
        --- stderr
        error: stdin:2:1: not valid YAML: while parsing a node, did not find expected node content
        error: 1 error: nothing was done
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told_with_a_remedy() {
    let place = Place::new();
    std::fs::write(place.path().join("file"), "").unwrap();
    place.check(
        &["up", "--home", "file"],
        &expect![[r#"
            exit 73
            --- stderr
            error: cannot write [HOME]/file: not a directory
            hint: give this user the right to write there, or name another directory with --home
        "#]],
    );
    let corrupt = place.path().join("corrupt");
    std::fs::create_dir(&corrupt).unwrap();
    std::fs::write(
        corrupt.join("state.db"),
        "this is no database, and long enough to be looked at\n".repeat(100),
    )
    .unwrap();
    place.check(
        &[
            "up",
            "--home",
            "corrupt",
            "--listen",
            "127.0.0.1:0",
            "--no-gateway",
        ],
        &expect![[r#"
            exit 74
            --- stderr
            error: [HOME]/corrupt/state.db is not a state file of serin (it is not an SQLite file); choose another directory, or move this file away
        "#]],
    );
}

#[test]
fn completions_are_for_the_named_shell() {
    let output = Place::new().output(&["completions", "bash"]);
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("complete -F _serin")
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    let mut child = place.serin(&["completions", "zsh"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = ended(child);
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn simulated_worlds_are_the_same_for_everybody_and_no_rule_breaks_in_them() {
    let place = Place::new();
    let world = || place.ran(&["sim", "blue-green", "--seed", "7"]);
    let told = world();
    assert!(
        told.starts_with("exit 0\n--- stdout\nblue-green, seed 7\n"),
        "{told}"
    );
    assert!(told.contains("s somebody: Deploy("), "{told}");
    assert!(told.ends_with("  every rule has held\n"), "{told}");
    assert_eq!(told, world());
    let many = place.output(&["sim", "--seeds", "2", "-o", "json"]);
    assert!(many.status.success());
    let ways: Vec<serde_json::Value> = serde_json::from_slice(&many.stdout).unwrap();
    let ways: Vec<_> = ways
        .iter()
        .map(|way| (&way["seeds"], &way["broken"]))
        .collect();
    assert_eq!(ways.len(), 10);
    assert!(
        ways.iter()
            .all(|(seeds, broken)| **seeds == 2 && broken.is_null())
    );
}

#[test]
fn a_way_of_releasing_that_nobody_has_is_told_with_those_that_there_are() {
    Place::new().check(&["sim", "big-bang"], &expect![[r#"
        exit 64
        --- stderr
        error: invalid value 'big-bang' for '[WAY]...'
          [possible values: canary-with-a-route, canary-by-replicas, blue-green, managed-routes, dynamic-stable-scale, ping-pong, experiments, batches, configuration, group]

          tip: a similar value exists: 'ping-pong'

        For more information, try '--help'.
    "#]]);
    Place::new().check(
        &["sim", "--seed", "7", "--seeds", "3"],
        &expect![[r#"
        exit 64
        --- stderr
        error: the argument '--seed <SEED>' cannot be used with '--seeds <N>'

        Usage: serin sim --seed <SEED> [WAY]...

        For more information, try '--help'.
    "#]],
    );
}
