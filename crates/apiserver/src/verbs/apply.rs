//! Server-side apply: creates the object or merges into it.

use http::StatusCode;
use serde_json::{Value, json};

use super::write::{Written, create_object, modify};
use crate::admit::Context;
use crate::body;
use crate::meta;
use crate::options::WriteOptions;
use crate::patch::{self, Conflict, Manager};
use crate::server::{ApiServer, Call};
use crate::status::Refusal;
use crate::target::{Part, Target};
use crate::tree::Tree;

/// How often a create gives way to an update of the same object, and the other way.
const TRIES: usize = 4;

pub(super) async fn apply(
    server: &ApiServer,
    call: &Call,
    options: &WriteOptions,
) -> Result<Written, Refusal> {
    let target = &call.target;
    let config = body::yaml(&call.body)?;
    if !config.is_object() || config.at("/apiVersion").is_null() || config.at("/kind").is_null() {
        return Err(Refusal::bad_request(
            "an apply patch needs apiVersion and kind",
        ));
    }
    if !options.is_named {
        return Err(Refusal::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    }
    let name = options.manager.as_str();
    let subresource = if target.part == Part::Status {
        "status"
    } else {
        ""
    };
    let manager = Manager { name, subresource };
    for _ in 0..TRIES {
        let written = if server.store.get(&target.key()).is_some() {
            merge(server, target, options, &config, manager).await
        } else if target.part == Part::Main {
            create(server, target, options, &config, manager).await
        } else {
            Err(Refusal::not_found(target.subject()))
        };
        match written {
            Err(refusal)
                if matches!(refusal.reason, "AlreadyExists" | "NotFound")
                    && target.part == Part::Main =>
            {
                // Lost a race, or the namespace is missing: only the first is worth another try.
                if refusal.details != Refusal::not_found(target.subject()).details {
                    return Err(refusal);
                }
            }
            other => return other,
        }
    }
    Err(Refusal::stale(target.subject()))
}

async fn merge(
    server: &ApiServer,
    target: &Target,
    options: &WriteOptions,
    config: &Value,
    manager: Manager<'_>,
) -> Result<Written, Refusal> {
    let context = applied(server, options);
    let change = |old: &Value| {
        check_version(target, old, config)?;
        let merged = patch::apply(
            &target.kind,
            Some(old),
            config,
            manager,
            options.force,
            context.now,
        );
        let mut merged = merged.map_err(|conflicts| conflicting(&conflicts))?;
        // What the configuration says of the object's kind is checked, not merged.
        merged.set("apiVersion", config.at("/apiVersion").clone());
        merged.set("kind", config.at("/kind").clone());
        Ok(merged)
    };
    modify(server, target, context, options.dry_run, change).await
}

/// An apply that carries a version or a uid is about that state only.
fn check_version(target: &Target, old: &Value, config: &Value) -> Result<(), Refusal> {
    let text = |name: &str| meta::text(config, name);
    crate::admit::preconditions(target, old, text("uid"), text("resourceVersion"))
}

async fn create(
    server: &ApiServer,
    target: &Target,
    options: &WriteOptions,
    config: &Value,
    manager: Manager<'_>,
) -> Result<Written, Refusal> {
    if !meta::text(config, "uid").is_empty() || !meta::text(config, "resourceVersion").is_empty() {
        return Err(Refusal::conflict(
            target.subject(),
            "the object it speaks of does not exist any more",
        ));
    }
    let context = applied(server, options);
    let made = patch::apply(
        &target.kind,
        None,
        config,
        manager,
        options.force,
        context.now,
    );
    let mut made = made.map_err(|conflicts| conflicting(&conflicts))?;
    made.set("apiVersion", config.at("/apiVersion").clone());
    made.set("kind", config.at("/kind").clone());
    for name in ["name", "namespace"] {
        if let Some(value) = config.at("/metadata").get(name) {
            meta::of_mut(&mut made).insert(name.to_owned(), value.clone());
        }
    }
    create_object(server, target, context, options.dry_run, made).await
}

/// The object that is written has its owners already.
fn applied(server: &ApiServer, options: &WriteOptions) -> Context<'static> {
    Context {
        now: server.now(),
        fields: options.fields,
        manager: None,
    }
}

/// Which fields belong to whom, as kubectl shows it.
fn conflicting(conflicts: &[Conflict]) -> Refusal {
    let fields = |c: &Conflict| -> Vec<Value> {
        let why = format!("conflict with {}", c.manager);
        let causes = c.fields.iter();
        causes
            .map(|f| json!({"reason": "FieldManagerConflict", "message": why, "field": f}))
            .collect()
    };
    let causes: Vec<Value> = conflicts.iter().flat_map(fields).collect();
    let told = match conflicts {
        [one] if one.fields.len() == 1 => {
            format!(
                "1 conflict: conflict with {}: {}",
                one.manager,
                one.fields.join("")
            )
        }
        _ => {
            let lines = conflicts.iter().flat_map(|c| {
                let fields = c.fields.iter().map(|f| format!("- {f}"));
                std::iter::once(format!("conflicts with {}:", c.manager)).chain(fields)
            });
            let lines: Vec<String> = lines.collect();
            format!("{} conflicts: {}", causes.len(), lines.join("\n"))
        }
    };
    Refusal {
        code: StatusCode::CONFLICT,
        reason: "Conflict",
        message: format!("Apply failed with {told}"),
        details: Some(json!({"causes": causes})),
        continue_: None,
        warnings: Vec::new(),
    }
}
