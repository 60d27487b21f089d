//! Create, replace and patch.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use super::{apply, show};
use crate::access;
use crate::admit::{self, Admitted, Context, Next};
use crate::body::{self, CUSTOM_PATCH_TYPES, PATCH_TYPES};
use crate::history;
use crate::options::WriteOptions;
use crate::patch::{Manager, Patch, PatchError};
use crate::registry;
use crate::render::Item;
use crate::server::{ApiServer, Call};
use crate::status::{Refusal, Subject, add_warnings};
use crate::store::{Draft, Expect, Op, Record, Write, WriteError};
use crate::target::Target;
use crate::tree::Tree;

/// How often a change is decided anew because somebody else wrote in between.
const TRIES: usize = 16;

/// What a write has left.
pub(crate) struct Written {
    pub(crate) item: Item,
    /// Whether the object is gone now.
    pub(crate) removed: bool,
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}

pub(super) async fn create(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    let options = WriteOptions::parse(&call.parameters, &call.headers)?;
    let (object, duplicates) = body::written(&call.headers, &call.body, options.fields)?;
    // Of an object that is in a namespace, the address must say which.
    if call.target.kind.namespaced && call.target.namespace.is_none() {
        return Err(Refusal::method(&call.method));
    }
    let context = context(server, &options, "");
    let mut written = create_object(server, &call.target, context, options.dry_run, object).await?;
    written.warnings.splice(0..0, duplicates);
    answer_written(server, &call, written)
}

/// Makes a new object of `object`.
pub(crate) async fn create_object(
    server: &ApiServer,
    target: &Target,
    context: Context<'_>,
    dry_run: bool,
    object: Value,
) -> Result<Written, Refusal> {
    // A made-up name may be taken by chance; a given one is refused then.
    let made_up = target.name.is_none()
        && object
            .at("/metadata/name")
            .as_str()
            .unwrap_or_default()
            .is_empty();
    if let Some(why) = registry::why_closed(&target.kind) {
        return Err(Refusal::method_for(why));
    }
    for attempt in 1.. {
        let Admitted {
            mut outcome,
            warnings,
        } = admit::create(target, context, object.clone())?;
        server
            .registry
            .settle(&target.kind, &mut outcome, context.now);
        let named = target.object(target.namespace(), crate::meta::text(&outcome, "name"));
        check_namespace(server, &named)?;
        check_rights(server, &named, None, &outcome)?;
        if server.store.get(&named.key()).is_some() && (dry_run || !made_up) {
            return Err(Refusal::exists(named.subject()));
        }
        let item = if dry_run {
            Item::Made(outcome)
        } else {
            match put(
                server,
                &named,
                Expect::Absent,
                Op::Put(Draft::new(&target.kind.as_stored(outcome))),
            )
            .await
            {
                Ok(record) => Item::Stored(record),
                Err(WriteError::Exists) if made_up && attempt < TRIES => continue,
                Err(error) => return Err(Refusal::write(named.subject(), &error)),
            }
        };
        return Ok(Written {
            item,
            removed: false,
            created: true,
            warnings,
        });
    }
    Err(Refusal::internal("no free name was found"))
}

pub(super) async fn replace(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    let options = WriteOptions::parse(&call.parameters, &call.headers)?;
    let (object, duplicates) = body::written(&call.headers, &call.body, options.fields)?;
    let context = context(server, &options, call.target.part.name());
    let mut written = modify(server, &call.target, context, options.dry_run, |_| {
        Ok(object.clone())
    })
    .await?;
    written.warnings.splice(0..0, duplicates);
    answer_written(server, &call, written)
}

pub(super) async fn patch(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    let options = WriteOptions::parse(&call.parameters, &call.headers)?;
    let media = body::media_type(&call.headers);
    if matches!(
        media,
        "application/apply-patch+yaml" | "application/apply-patch+cbor"
    ) {
        let written = apply::apply(server, &call, &options).await?;
        return answer_written(server, &call, written);
    }
    if media == "application/strategic-merge-patch+json" && call.target.kind.is_custom() {
        return Err(Refusal::media_type(CUSTOM_PATCH_TYPES));
    }
    let patch = read_patch(media, &call.body)?;
    let kind = Arc::clone(&call.target.kind);
    let change = |old: &Value| patch.apply(&kind, old).map_err(|e| refuse_patch(&e));
    let written = modify(
        server,
        &call.target,
        context(server, &options, call.target.part.name()),
        options.dry_run,
        change,
    )
    .await?;
    answer_written(server, &call, written)
}

pub(super) fn read_patch(media: &str, content: &[u8]) -> Result<Patch, Refusal> {
    match media {
        "application/json-patch+json" => {
            Patch::json(body::json(content)?).map_err(|e| refuse_patch(&e))
        }
        "application/merge-patch+json" => body::json(content).map(Patch::Merge),
        "application/strategic-merge-patch+json" => body::json(content).map(Patch::Strategic),
        _ => Err(Refusal::media_type(PATCH_TYPES)),
    }
}

pub(super) fn refuse_patch(error: &PatchError) -> Refusal {
    match error {
        PatchError::Malformed(why) => Refusal::bad_request(why.as_str()),
        PatchError::Unfit(why) => Refusal::unprocessable(format!(
            "the server rejected our request due to an error in our request: {why}"
        )),
    }
}

/// The context of a write that is no apply, to a part of an object.
pub(super) fn context<'a>(
    server: &ApiServer,
    options: &'a WriteOptions,
    subresource: &'a str,
) -> Context<'a> {
    Context {
        now: server.now(),
        fields: options.fields,
        manager: Some(Manager {
            name: &options.manager,
            subresource,
        }),
    }
}

/// Writes what `change` makes of the present object, and decides anew when somebody else was faster.
pub(crate) async fn modify(
    server: &ApiServer,
    target: &Target,
    context: Context<'_>,
    dry_run: bool,
    change: impl Fn(&Value) -> Result<Value, Refusal>,
) -> Result<Written, Refusal> {
    decide(server, target, dry_run, |old| {
        admit::update(target, context, old, change(old)?)
    })
    .await
}

/// Writes what `decision` makes of the present object.
pub(super) async fn decide(
    server: &ApiServer,
    target: &Target,
    dry_run: bool,
    decision: impl Fn(&Value) -> Result<Admitted<Next>, Refusal>,
) -> Result<Written, Refusal> {
    for _ in 0..TRIES {
        let record = server.store.get(&target.key());
        let record = record.ok_or_else(|| Refusal::not_found(target.subject()))?;
        let Admitted {
            mut outcome,
            warnings,
        } = decision(&target.kind.as_served(record.value()))?;
        if let Next::Put(object) = &mut outcome {
            server.registry.settle(&target.kind, object, server.now());
            check_rights(server, target, Some(&record), object)?;
        }
        let removed = matches!(outcome, Next::Remove(_));
        let item = match outcome {
            Next::Same => Item::Stored(record),
            Next::Put(object) | Next::Remove(object) if dry_run => Item::Made(object),
            Next::Put(object) => match put(
                server,
                target,
                Expect::Version(record.rv),
                Op::Put(Draft::new(&target.kind.as_stored(object))),
            )
            .await
            {
                Ok(record) => Item::Stored(record),
                Err(WriteError::Conflict | WriteError::Missing) => continue,
                Err(error) => return Err(Refusal::write(target.subject(), &error)),
            },
            Next::Remove(object) => match put(
                server,
                target,
                Expect::Version(record.rv),
                Op::Remove(Draft::new(&target.kind.as_stored(object))),
            )
            .await
            {
                Ok(record) => Item::Stored(record),
                Err(WriteError::Conflict | WriteError::Missing) => continue,
                Err(error) => return Err(Refusal::write(target.subject(), &error)),
            },
        };
        return Ok(Written {
            item,
            removed,
            created: false,
            warnings,
        });
    }
    Err(Refusal::stale(target.subject()))
}

async fn put(
    server: &ApiServer,
    target: &Target,
    expect: Expect,
    op: Op,
) -> Result<Arc<Record>, WriteError> {
    let key = target.key();
    let by = Some(Box::new(history::signature(server, target.part.name())));
    let write = Write {
        key,
        expect,
        op,
        by,
    };
    server.store.write(write).await
}

/// Refuses to give rights that the author does not have.
fn check_rights(
    server: &ApiServer,
    target: &Target,
    old: Option<&Record>,
    new: &Value,
) -> Result<(), Refusal> {
    if target.kind.group != access::RBAC {
        return Ok(());
    }
    let (policy, user) = (server.policies.now(), &server.author.user);
    access::check_escalation(&policy, user, target, old.map(Record::value).as_ref(), new)
}

/// Refuses to make an object in a namespace that is not there or is on its way out.
fn check_namespace(server: &ApiServer, target: &Target) -> Result<(), Refusal> {
    let Some(name) = &target.namespace else {
        return Ok(());
    };
    let key = crate::store::Key::new("", "namespaces", "", name);
    match server.store.get(&key) {
        None => Err(Refusal::not_found(Subject {
            group: "",
            kind: "Namespace",
            plural: "namespaces",
            name,
        })),
        Some(namespace) if namespace.facts.deleting => {
            let why = format!(
                "unable to create new content in namespace {name} because it is being terminated"
            );
            Err(Refusal::forbidden(target.subject(), &why))
        }
        Some(_) => Ok(()),
    }
}

pub(super) fn answer_written(
    server: &ApiServer,
    call: &Call,
    written: Written,
) -> Result<Response, Refusal> {
    let code = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = show(server, call, code, written.item)?;
    add_warnings(&mut response, &written.warnings);
    Ok(response)
}
