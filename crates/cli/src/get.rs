//! `serin get`: objects of any kind, in the columns that the server gives them.

mod table;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::client::{Catalog, Client, ClientError, Resource, escape};
use crate::context::Context;
use crate::error::CliError;
use table::{Rows, Width};

/// Asks for columns.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Which objects, and in which form.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Kinds, by any of their names, with commas between: rollouts, deploy,rs,pods
    #[arg(value_name = "KIND")]
    kinds: String,
    /// One object of that kind; without it, all
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels: app=shop,tier in (web,api)
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// The form of the output; columns without it
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Go on with a line at each change, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// More columns.
    Wide,
    /// The objects as JSON.
    Json,
    /// The objects as YAML.
    Yaml,
    /// kind/name.
    Name,
}

/// Prints the objects.
pub(crate) async fn run(context: &Context, args: GetArgs) -> Result<(), CliError> {
    let client = context.client().await?;
    let catalog = Catalog::load(&client).await?;
    let resources = resources(&catalog, &args.kinds)?;
    if args.watch && resources.len() > 1 {
        return Err(CliError::failed("only one kind at a time can be watched"));
    }
    if args.name.is_some() && args.all_namespaces {
        return Err(CliError::failed(
            "an object is in one namespace: NAME and --all-namespaces do not go together",
        ));
    }
    match args.output {
        None => columns(context, &client, &resources, &args, Width::Usual).await,
        Some(Output::Wide) => columns(context, &client, &resources, &args, Width::Wide).await,
        Some(output) => objects(context, &client, &resources, &args, output).await,
    }
}

/// The kinds of `deploy,rs,pods`, or of a word such as `all` that stands for several.
pub(crate) fn resources<'a>(
    catalog: &'a Catalog,
    words: &str,
) -> Result<Vec<&'a Resource>, CliError> {
    let mut found = Vec::new();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let category = catalog.by_category(word);
        if !category.is_empty() {
            found.extend(category);
            continue;
        }
        let Some(resource) = catalog.by_word(word) else {
            let error = CliError::failed(format!("the server has no kind {word:?}"));
            return Err(match catalog.nearest(word) {
                Some(nearest) => error.hint(format!("did you mean {nearest:?}?")),
                None => error,
            });
        };
        found.push(resource);
    }
    if found.is_empty() {
        return Err(CliError::failed("no kind is named"));
    }
    Ok(found)
}

fn path(client: &Client, resource: &Resource, args: &GetArgs) -> String {
    if let Some(name) = &args.name {
        return resource.path(client.namespace(), name);
    }
    let namespace = (!args.all_namespaces).then(|| client.namespace());
    let path = resource.list_path(namespace);
    match &args.selector {
        Some(selector) => format!("{path}?labelSelector={}", escape(selector)),
        None => path,
    }
}

async fn columns(
    context: &Context,
    client: &Client,
    resources: &[&Resource],
    args: &GetArgs,
    width: Width,
) -> Result<(), CliError> {
    let several = resources.len() > 1;
    let mut empty = true;
    for resource in resources {
        let answer = client.get_as(&path(client, resource, args), TABLE).await?;
        for warning in &answer.warnings {
            context.printer.warning(warning);
        }
        let namespaces = args.all_namespaces && resource.namespaced;
        let prefix = several.then(|| resource.type_name());
        let mut rows = Rows::new(&answer.object, width, namespaces, prefix)?;
        if !rows.is_empty() || args.watch {
            if several && !empty {
                context.printer.result("")?;
            }
            empty = false;
            context.printer.result(rows.text().trim_end())?;
        }
        if args.watch {
            return follow(context, client, resource, args, &mut rows, &answer.object).await;
        }
    }
    if empty {
        context.printer.progress(nothing(client, args));
    }
    Ok(())
}

fn nothing(client: &Client, args: &GetArgs) -> String {
    if args.all_namespaces {
        "nothing found".to_owned()
    } else {
        format!("nothing found in namespace {:?}", client.namespace())
    }
}

/// Prints a line at each change after `list`.
async fn follow(
    context: &Context,
    client: &Client,
    resource: &Resource,
    args: &GetArgs,
    rows: &mut Rows,
    list: &Value,
) -> Result<(), CliError> {
    let version = list
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut query = format!("?watch=true&resourceVersion={}", escape(version));
    if let Some(name) = &args.name {
        query.push_str(&format!("&fieldSelector=metadata.name%3D{}", escape(name)));
    }
    if let Some(selector) = &args.selector {
        query.push_str(&format!("&labelSelector={}", escape(selector)));
    }
    let namespace = (!args.all_namespaces).then(|| client.namespace());
    let path = format!("{}{query}", resource.list_path(namespace));
    let mut events = client.stream(&path, TABLE).await?;
    loop {
        let event = tokio::select! {
            event = events.next_json() => event?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(event) = event else {
            return Err(CliError::failed("the server ended the watch"));
        };
        let object = event.get("object").unwrap_or(&Value::Null);
        match event.get("type").and_then(Value::as_str) {
            Some("BOOKMARK") => {}
            Some("ERROR") => {
                let why = object.get("message").and_then(Value::as_str);
                let why = why.unwrap_or("no reason given");
                return Err(CliError::failed(format!(
                    "the server ended the watch: {why}"
                )));
            }
            _ => context.printer.result(rows.more(object).trim_end())?,
        }
    }
}

async fn objects(
    context: &Context,
    client: &Client,
    resources: &[&Resource],
    args: &GetArgs,
    output: Output,
) -> Result<(), CliError> {
    if args.watch {
        return Err(CliError::failed(
            "--watch shows columns; leave --output away",
        ));
    }
    let mut found = Vec::new();
    for resource in resources {
        let answer = client.get(&path(client, resource, args)).await?;
        found.extend(items(answer, resource)?);
    }
    if output == Output::Name {
        for object in &found {
            context.printer.result(name(object, resources))?;
        }
        return Ok(());
    }
    let whole = match (args.name.is_some(), found.len()) {
        (true, 1) => found.remove(0),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": found}),
    };
    context
        .printer
        .result(written(&whole, output)?.trim_end())?;
    Ok(())
}

/// The objects of a list, each with its kind, which lists leave away; or the one object.
fn items(answer: Value, resource: &Resource) -> Result<Vec<Value>, ClientError> {
    let Value::Object(mut answer) = answer else {
        return Err(ClientError::Malformed {
            what: "no object".to_owned(),
        });
    };
    let Some(Value::Array(items)) = answer.remove("items") else {
        return Ok(vec![Value::Object(answer)]);
    };
    let api_version = if resource.group.is_empty() {
        resource.version.clone()
    } else {
        format!("{}/{}", resource.group, resource.version)
    };
    let with_kind = |item: Value| {
        let mut whole = json!({"apiVersion": api_version, "kind": resource.kind});
        if let (Value::Object(whole), Value::Object(item)) = (&mut whole, item) {
            whole.extend(item);
        }
        whole
    };
    Ok(items.into_iter().map(with_kind).collect())
}

fn name(object: &Value, resources: &[&Resource]) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("");
    let kind = text("/kind");
    let resource = resources.iter().find(|resource| resource.kind == kind);
    let kind = resource.map_or_else(|| kind.to_lowercase(), |resource| resource.type_name());
    format!("{kind}/{}", text("/metadata/name"))
}

/// An object as text. The record of who wrote which field is for machines and left away.
fn written(object: &Value, output: Output) -> Result<String, CliError> {
    let mut object = object.clone();
    without_managed_fields(&mut object);
    let failed = |error: &dyn std::fmt::Display| {
        CliError::failed(format!("cannot write the object: {error}"))
    };
    match output {
        Output::Yaml => serde_saphyr::to_string(&object).map_err(|error| failed(&error)),
        _ => serde_json::to_string_pretty(&object).map_err(|error| failed(&error)),
    }
}

fn without_managed_fields(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    if let Some(Value::Array(items)) = object.get_mut("items") {
        items.iter_mut().for_each(without_managed_fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_list_get_their_kind_back() {
        let resource = Resource::known("apps", "v1", "Deployment", "deployments");
        let list = json!({"kind": "DeploymentList", "items": [{"metadata": {"name": "web"}}]});
        let items = items(list, &resource).unwrap();
        assert_eq!(name(&items[0], &[&resource]), "deployment.apps/web");
        assert_eq!(items[0]["apiVersion"], "apps/v1");
    }

    #[test]
    fn who_wrote_which_field_is_left_away() {
        let object = json!({"kind": "Pod", "metadata": {"name": "a", "managedFields": [{}]}});
        let text = written(&object, Output::Yaml).unwrap();
        assert!(!text.contains("managedFields"), "{text}");
    }
}
