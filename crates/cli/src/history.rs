//! `serin history`: who has written what and when.

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use crate::client::{Catalog, escape};
use crate::columns;
use crate::context::Context;
use crate::error::CliError;
use crate::get::resources;

const TITLES: [&str; 6] = ["TIME", "USER", "CHANGE", "OBJECT", "VERSION", "PROGRAM"];

/// Which writes are wanted.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Only those of one kind, by any of its names
    #[arg(value_name = "KIND")]
    kind: Option<String>,
    /// Only those of one object
    #[arg(value_name = "NAME", requires = "kind")]
    name: Option<String>,
    /// Only those of one user, such as serin:admin
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// At most so many, the latest ones
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print JSON
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

/// Prints them, the latest first.
pub(crate) async fn run(context: &Context, args: HistoryArgs) -> Result<(), CliError> {
    let client = context.client().await?;
    let mut path = format!("/history?limit={}", args.limit);
    let mut ask = |name: &str, value: &str| path.push_str(&format!("&{name}={}", escape(value)));
    if let Some(kind) = &args.kind {
        let catalog = Catalog::load(&client).await?;
        if let Some(resource) = resources(&catalog, kind)?.first() {
            ask("group", &resource.group);
            ask("resource", &resource.plural);
        }
    }
    let wanted = [
        ("namespace", &context.namespace),
        ("name", &args.name),
        ("user", &args.user),
    ];
    for (name, value) in wanted {
        if let Some(value) = value {
            ask(name, value);
        }
    }
    let history = client.get(&path).await?;
    if args.output.is_some() {
        let text = serde_json::to_string_pretty(&history)
            .map_err(|error| CliError::failed(format!("cannot write JSON: {error}")))?;
        return Ok(context.printer.result(text)?);
    }
    let entries = history
        .get("items")
        .and_then(Value::as_array)
        .map(Vec::as_slice);
    let rows: Vec<Vec<String>> = entries.unwrap_or_default().iter().map(row).collect();
    if rows.is_empty() {
        context.printer.progress("nothing was written");
        return Ok(());
    }
    let table = columns::table(&TITLES, &rows);
    Ok(context.printer.raw(table.as_bytes())?)
}

fn row(entry: &Value) -> Vec<String> {
    let text = |field: &str| entry[field].as_str().unwrap_or_default();
    let time: Option<Timestamp> = text("time").parse().ok();
    let time = time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let part = |name: &str| match name {
        "" => String::new(),
        name => format!("/{name}"),
    };
    let group = match text("group") {
        "" => String::new(),
        group => format!(".{group}"),
    };
    let within = match text("namespace") {
        "" => String::new(),
        namespace => format!(" in {namespace}"),
    };
    let object = format!(
        "{}{group}{}/{}{within}",
        text("resource"),
        part(text("subresource")),
        text("name")
    );
    let version = match text("fromResourceVersion") {
        "" => text("resourceVersion").to_owned(),
        from => format!("{from} → {}", text("resourceVersion")),
    };
    vec![
        time.unwrap_or_default(),
        text("user").to_owned(),
        text("change").to_owned(),
        object,
        version,
        text("userAgent").to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_who_did_what_to_which_object() {
        let scaled = json!({"time": "2026-01-02T03:04:05.678Z", "user": "serin:admin", "userAgent": "kubectl/v1.33",
            "verb": "patch", "group": "apps", "resource": "deployments", "subresource": "scale", "namespace": "shop",
            "name": "web", "change": "updated", "fromResourceVersion": "41", "resourceVersion": "57"});
        let made = json!({"time": "2026-01-02T03:04:00Z", "user": "system:serin:controllers", "userAgent": "", "verb": "create",
            "group": "", "resource": "nodes", "subresource": "", "namespace": "", "name": "local", "change": "created",
            "fromResourceVersion": null, "resourceVersion": "9"});
        expect![[r#"
            TIME                  USER                       CHANGE    OBJECT                               VERSION   PROGRAM
            2026-01-02 03:04:05   serin:admin                updated   deployments.apps/scale/web in shop   41 → 57   kubectl/v1.33
            2026-01-02 03:04:00   system:serin:controllers   created   nodes/local                          9
        "#]].assert_eq(&columns::table(&TITLES, &[row(&scaled), row(&made)]));
    }
}
