//! Starts one run of a container: from its spec to a living shim.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::{Api, Client};

use super::Context;
use crate::bundle::{Bundle, Resolved};
use crate::dirs::numbered;
use crate::environment::{self, Place, Sources};
use crate::leftovers;
use crate::pod::{Notice, Waiting};
use crate::ports;
use crate::shim::wire::{LogSpec, Record, Spec};
use crate::shim::{client, record};

/// Which run of which container.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) container: String,
    pub(super) run: u32,
    pub(super) address: Ipv4Addr,
}

/// Starts it. `Err` is what the container then waits for.
pub(super) async fn start(ctx: &Context, pod: &Pod, order: &Order) -> Result<Record, Waiting> {
    let spec = pod.spec.as_ref();
    let container = spec
        .into_iter()
        .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
        .find(|c| c.name == order.container)
        .ok_or_else(|| {
            waiting(
                "CreateContainerError",
                "the container is not in the spec".into(),
            )
        })?;
    let image = container.image.as_deref().unwrap_or_default();
    let resolved = ctx
        .config
        .bundles
        .resolve(image)
        .map_err(|error| waiting("ErrImagePull", error.to_string()))?;
    let notice = |reason, message| Notice {
        warning: false,
        reason,
        message,
    };
    ctx.recorder.tell(
        pod,
        notice(
            "Pulled",
            format!("Image {image:?} is bundle {}", resolved.bundle),
        ),
    );
    let spec = run_spec(ctx, pod, container, &resolved, order).await?;
    let record = launch(ctx, pod, container, order, spec).await?;
    ctx.recorder.tell(
        pod,
        notice("Created", format!("Created container {}", container.name)),
    );
    Ok(record)
}

async fn run_spec(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    resolved: &Resolved,
    order: &Order,
) -> Result<Spec, Waiting> {
    let config_error = |message: String| waiting("CreateContainerConfigError", message);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let sources = fetch(&ctx.client, namespace, container)
        .await
        .map_err(config_error)?;
    let address = order.address.to_string();
    let place = Place {
        pod_ip: &address,
        host_ip: super::HOST_IP,
        node: &ctx.config.name,
    };
    let extra = match resolved.bundle {
        Bundle::Host => Vec::new(),
        Bundle::Demo { .. } => vec![("VERSION".to_owned(), resolved.version.clone())],
    };
    let env = environment::assemble(pod, container, place, &ctx.passed_on, &extra, &sources)
        .map_err(|error| config_error(error.to_string()))?;
    let argv = argv(container, &resolved.bundle, &ctx.config.shim, &env)
        .map_err(|message| waiting("CreateContainerError", message))?;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let cwd = match container.working_dir.as_deref() {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => ctx.dirs.work(uid, &container.name),
    };
    let logs = ctx.config.logs;
    Ok(Spec {
        argv,
        env: env.into_iter().collect(),
        cwd,
        log: LogSpec {
            path: ctx.dirs.log(uid, &container.name, order.run),
            max_bytes: logs.max_file_bytes,
            max_files: logs.max_files,
            max_bytes_per_second: logs.max_bytes_per_second,
        },
    })
}

/// `command` replaces what the bundle runs, `args` are behind either.
fn argv(
    container: &Container,
    bundle: &Bundle,
    executable: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Vec<String>, String> {
    let expand = |words: &Option<Vec<String>>| -> Vec<String> {
        let words = words.iter().flatten();
        words.map(|word| environment::expand(word, env)).collect()
    };
    let mut argv = expand(&container.command);
    if argv.is_empty() {
        argv = match bundle {
            Bundle::Host => {
                return Err(
                    "image \"host\" runs what is on the machine and has no default: set command"
                        .into(),
                );
            }
            Bundle::Demo { .. } => vec![
                executable.to_string_lossy().into_owned(),
                "demo-app".to_owned(),
            ],
        };
    }
    argv.extend(expand(&container.args));
    Ok(argv)
}

async fn fetch(client: &Client, namespace: &str, container: &Container) -> Result<Sources, String> {
    let (config_maps, secrets) = environment::references(container);
    let mut sources = Sources::default();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for name in config_maps {
        let found = api.get_opt(&name).await;
        if let Some(map) = found.map_err(|e| format!("ConfigMap {name}: {e}"))? {
            sources.config_maps.insert(name, map);
        }
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for name in secrets {
        let found = api.get_opt(&name).await;
        if let Some(secret) = found.map_err(|e| format!("Secret {name}: {e}"))? {
            sources.secrets.insert(name, secret);
        }
    }
    Ok(sources)
}

async fn launch(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    order: &Order,
    spec: Spec,
) -> Result<Record, Waiting> {
    let create_error = |message: String| waiting("CreateContainerError", message);
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let (dirs, container, order) = (ctx.dirs.clone(), container.clone(), order.clone());
    let (owner, name) = (uid.clone(), container.name.clone());
    let prepared = tokio::task::spawn_blocking(move || {
        ports::check(&container, order.address.into())?;
        let name = &container.name;
        let dir = dirs.run(&uid, name, order.run);
        let needed = [dir.clone(), dirs.work(&uid, name), dirs.logs(&uid, name)];
        for dir in needed {
            make_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        forget_old_runs(
            &dirs.container(&uid, name),
            &dirs.logs(&uid, name),
            order.run,
        );
        Ok(dir)
    });
    let dir = prepared
        .await
        .unwrap_or_else(|e| Err(e.to_string()))
        .map_err(create_error)?;
    match client::start(&ctx.config.shim, &dir, &spec).await {
        Ok(record) => Ok(record),
        Err(message) => {
            let undone = tokio::task::spawn_blocking(move || undo(&dir, &owner, &name));
            let _ = undone.await;
            Err(waiting("RunContainerError", message))
        }
    }
}

/// A run that failed to start leaves nothing, not even an application whose shim was too slow to say that it runs.
fn undo(dir: &Path, uid: &str, container: &str) {
    let record = record::read(dir).ok().flatten();
    leftovers::clean_up(dir, record, uid, container);
    let _ = fs::remove_dir_all(dir);
}

/// Private to the user: environments and outputs may hold secrets.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Keeps the run before this one, for `logs --previous`, and no older ones.
fn forget_old_runs(runs: &Path, logs: &Path, run: u32) {
    for old in numbered(runs, "").into_iter().filter(|n| n + 1 < run) {
        let _ = fs::remove_dir_all(runs.join(old.to_string()));
    }
    for entry in fs::read_dir(logs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.split('.').next()?.parse::<u32>().ok());
        if number.is_some_and(|n| n + 1 < run) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn waiting(reason: &'static str, message: String) -> Waiting {
    Waiting {
        reason,
        message: Some(message),
    }
}
