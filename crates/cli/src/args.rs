//! The command line: commands, global options and the texts of the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::analyze::AnalyzeArgs;
use crate::apply::ApplyArgs;
use crate::backup::{BackupArgs, RestoreArgs};
use crate::controller::ControllerArgs;
use crate::delete::DeleteArgs;
use crate::demo::DemoArgs;
use crate::down::DownArgs;
use crate::error::EXIT_CODES;
use crate::gateway_command::GatewayCommand;
use crate::get::GetArgs;
use crate::history::HistoryArgs;
use crate::install::InstallArgs;
use crate::load_command::LoadArgs;
use crate::logs::LogsArgs;
use crate::plan::PlanArgs;
use crate::rollout::RolloutCommand;
use crate::sim::SimArgs;
use crate::up::UpArgs;

/// Continuous deployment that never loses a request.
///
/// Serin runs a whole delivery platform on one machine: a Kubernetes API, instances as processes, a gateway that splits the
/// requests, and controllers that release in steps and take back by themselves what the numbers speak against.
#[derive(Debug, Parser)]
#[command(name = "serin", version, after_long_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// For all commands.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of all commands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The state directory [env: SERIN_HOME] [default: the platform's data directory, ~/.local/share/serin]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) home: Option<PathBuf>,
    /// The server to speak to [env: KUBECONFIG] [default: kubeconfig in the state directory]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The namespace of objects that name none [default: that of the kubeconfig]
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Global options"
    )]
    pub(crate) namespace: Option<String>,
    /// Say nothing but results, warnings and errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Log more to stderr; twice for everything [env: SERIN_LOG, in the form of RUST_LOG]
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,
    /// When to use colours
    #[arg(
        long = "color",
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    pub(crate) colour: Colour,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Makes it so for the whole process.
    pub(crate) fn write_global(self) {
        let choice = match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// What `serin` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the platform of the state directory
    #[command(
        after_help = "Examples:\n  serin up\n  export KUBECONFIG=$(serin up --detach)\n  \
        serin up --home ./trial --listen 127.0.0.1:0 --gateway-listen 127.0.0.1:0\n  serin up --image nginx=host\n\n\
        Ctrl-C stops the control plane alone: instances and the gateway serve on, and the next `serin up` finds them again.\n\n\
        The rules of --image are kept in images.json of the state directory; a later one replaces the one of the same NAME."
    )]
    Up(UpArgs),
    /// Stop everything of the state directory: control plane, gateway, instances
    #[command(
        after_help = "Examples:\n  serin down\n  serin down --home ./trial --delete-data\n\n\
        Objects are kept: the next `serin up` starts the same instances again."
    )]
    Down(DownArgs),
    /// Upgrade the gateway without losing a request, or serve the routes of any cluster
    #[command(
        subcommand,
        after_help = "Examples:\n  serin gateway upgrade\n  serin gateway serve --kubeconfig ~/.kube/config --listen 0.0.0.0:8080\n\n\
        `serin up` starts the gateway of its platform by itself; docs/gateway.md tells its settings and what it measures."
    )]
    Gateway(GatewayCommand),
    /// Write a copy of all objects into a file, also while the platform runs
    #[command(
        after_help = "Examples:\n  serin backup objects.serin\n  serin backup --force /var/backups/objects.serin\n\n\
        The file has the Secrets too. Keys, certificates, images and logs are not in it."
    )]
    Backup(BackupArgs),
    /// Put the objects of a backup in the place of those of the state directory
    #[command(
        after_help = "Example:\n  serin down\n  serin restore objects.serin\n  serin up\n\n\
        The control plane must not run. The objects that were there before are kept as state.db-replaced, until the next restore."
    )]
    Restore(RestoreArgs),
    /// Create the objects of manifests, or change them to what these say
    #[command(
        after_help = "Examples:\n  serin apply -f app.yaml\n  serin apply -f manifests/ -n prod --dry-run\n  \
        cat app.yaml | serin apply -f -"
    )]
    Apply(ApplyArgs),
    /// Show how a release would go, step by step, and change nothing
    #[command(
        after_help = "Examples:\n  serin plan app.yaml\n  serin plan manifests/ -o json\n\n\
        Instances are taken to start at once and analyses to be good: times are the shortest that a release takes. OLD and NEW are instances\n\
        at the end of a step, EXTRA those above `replicas` in it. The exit code is 1 when a release could not be carried out."
    )]
    Plan(PlanArgs),
    /// Show objects of any kind
    #[command(
        after_help = "Examples:\n  serin get rollouts\n  serin get deploy,rs,pods -A\n  serin get pod shop-6cf78c-x2x9b -o yaml\n  \
        serin get pods -l app=shop -w"
    )]
    Get(GetArgs),
    /// Delete objects
    #[command(after_help = "Examples:\n  serin delete rollout shop\n  serin delete -f app.yaml")]
    Delete(DeleteArgs),
    /// Show what instances have written
    #[command(
        after_help = "Examples:\n  serin logs shop-6cf78c-x2x9b --tail 20\n  serin logs rollout/shop -f\n  \
        serin logs shop-6cf78c-x2x9b --previous"
    )]
    Logs(LogsArgs),
    /// Look at a release, wait for it, and steer it
    #[command(
        visible_alias = "ro",
        after_help = "Examples:\n  serin rollout watch shop\n  serin rollout promote shop\n  serin rollout undo shop -m 'orders fail'\n\n\
        `serin get rollouts` lists them, `serin plan FILE` tells beforehand how a release would go."
    )]
    Rollout {
        /// What to do.
        #[command(subcommand)]
        command: RolloutCommand,
    },
    /// Look after the Rollouts of any cluster
    #[command(
        after_help = "Examples:\n  serin controller --kubeconfig ~/.kube/config\n  serin controller -n shop --health-listen 127.0.0.1:8081\n\n\
        In a pod it takes the service account. Several may run: one leads by a Lease, the others wait to take its place.\n\
        `serin install` prints what a cluster needs for it."
    )]
    Controller(ControllerArgs),
    /// Print the CustomResourceDefinitions of our kinds
    #[command(after_help = "Example:\n  serin crds | kubectl apply --server-side -f -")]
    Crds,
    /// Print what a cluster needs to run the controllers: definitions, rights and a Deployment
    #[command(
        after_help = "Examples:\n  serin install | kubectl apply --server-side -f -\n  serin install -n shop --namespaced --without-crds\n\n\
        The namespace is that of -n, or serin-system."
    )]
    Install(InstallArgs),
    /// Show the whole job on one screen: releases under load, one of them bad, and every request accounted for
    #[command(
        after_help = "Examples:\n  serin demo\n  serin demo --steps 10,50,100 --speed 2\n  serin demo --keep\n\n\
        Everything happens in a temporary directory on ports that the system chooses. The exit code is 0 only if every promise held."
    )]
    Demo(DemoArgs),
    /// Send requests at a constant rate and account for every one
    #[command(
        after_help = "Example:\n  serin load http://127.0.0.1:8080/ --host shop.example.com --rate 200 --duration 30s"
    )]
    Load(LoadArgs),
    /// Show who has written what, and when
    #[command(
        after_help = "Examples:\n  serin history\n  serin history rollout shop -n shop\n  serin history --user serin:admin -o json\n\n\
        Kept for 90 days, 100,000 writes at most; the status of objects, Events and Leases are left out, and what was written is too."
    )]
    History(HistoryArgs),
    /// Say what the judge of analyses would have said of a recording, or make one
    #[command(
        after_help = "Examples:\n  serin analyze --record httproute/web --for 30m > release.jsonl\n  serin analyze release.jsonl\n  serin analyze release.csv --metric latency --compare stable --margin 0.5 -o json\n\n\
        The exit code is 2 when the new revision is bad. docs/analysis.md has the form of a recording."
    )]
    Analyze(AnalyzeArgs),
    /// Release in simulated worlds in which everything goes wrong, and check every rule
    #[command(
        after_help = "Examples:\n  serin sim\n  serin sim blue-green --seeds 100000\n  serin sim canary-with-a-route --seed 7\n\n\
        Instances start slowly, die or never come, measurements and the data plane lag, the controller is killed between any two \
        actions and sees old states, people deploy, abort and undo at any time. Then the world heals, and the release must come to \
        rest. A seed always gives the same world; one that breaks a rule is told with the fewest faults that it takes."
    )]
    Sim(SimArgs),
    /// Print a script that completes commands in a shell
    #[command(
        after_help = "Examples:\n  source <(serin completions bash)\n  serin completions zsh > ~/.zfunc/_serin"
    )]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

impl Command {
    /// Whether it runs parts of the platform, whose log a person then wants to see.
    pub(crate) fn is_platform(&self) -> bool {
        matches!(
            self,
            Self::Up(_) | Self::Controller(_) | Self::Gateway(GatewayCommand::Serve(_))
        )
    }
}
