//! `serin rollout history`: the revisions of a workload, or the pod template of one.

use jiff::Timestamp;

use super::objects::Objects;
use super::render::whole_seconds;
use super::view;
use crate::columns;
use crate::error::CliError;
use crate::printer::Printer;

/// Prints the revisions, or the template of `revision`.
pub(super) fn print(
    printer: Printer,
    objects: &Objects,
    revision: Option<i64>,
) -> Result<(), CliError> {
    match revision {
        None => Ok(printer.result(table(objects, Timestamp::now()).trim_end())?),
        Some(number) => Ok(printer.result(template(objects, number)?.trim_end())?),
    }
}

/// One line a revision, oldest first, as the history of kubectl.
fn table(objects: &Objects, now: Timestamp) -> String {
    let titles = [
        "REVISION",
        "HASH",
        "ROLE",
        "IMAGES",
        "AGE",
        "CHANGE-CAUSE",
        "OUTCOME",
    ];
    let mut rows = Vec::new();
    for (place, (number, set)) in objects.revisions().into_iter().enumerate() {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let roles = view::set_roles(objects, set, place == 0);
        let roles: Vec<&str> = roles.iter().map(|role| role.word()).collect();
        let age = view::age(set.metadata.creation_timestamp.as_ref(), now);
        rows.push(vec![
            number.map_or_else(|| "?".to_owned(), |number| number.to_string()),
            objects
                .hash_of(&set.metadata)
                .unwrap_or_default()
                .to_owned(),
            roles.join(","),
            template
                .map(view::template_images)
                .unwrap_or_default()
                .join(","),
            age.map(whole_seconds).unwrap_or_default(),
            view::cause(set).unwrap_or_else(|| "<none>".to_owned()),
            view::outcome(set),
        ]);
    }
    rows.reverse();
    columns::table(&titles, &rows)
}

fn template(objects: &Objects, number: i64) -> Result<String, CliError> {
    let revisions = objects.revisions();
    let found = revisions.iter().find(|(known, _)| *known == Some(number));
    let Some((_, set)) = found else {
        let known: Vec<String> = revisions
            .iter()
            .filter_map(|(known, _)| known.map(|known| known.to_string()))
            .collect();
        let name = objects.workload.reference();
        return Err(CliError::failed(format!("{name} has no revision {number}"))
            .hint(format!("there are: {}", known.join(", "))));
    };
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    serde_saphyr::to_string(&template)
        .map_err(|error| CliError::failed(format!("cannot write the template: {error}")))
}
