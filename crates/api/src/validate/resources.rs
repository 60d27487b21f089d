//! What containers ask for and may take at most.

use super::field::Field;
use crate::units::quantity::Quantity;

/// The resources of one container: nothing below zero, and no more asked for than may be taken.
pub(super) fn check(resources: &Field<'_>, out: &mut Vec<crate::Problem>) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    for amount in [&limits, &requests]
        .into_iter()
        .flat_map(|map| map.entries())
    {
        if read(&amount.1).is_some_and(Quantity::is_negative) {
            let why = "must be greater than or equal to 0";
            out.push(amount.1.invalid(why));
        }
    }
    for (name, request) in requests.entries() {
        let limit = limits.map().and_then(|limits| limits.get(name));
        let limit = Field {
            value: limit,
            path: limits.path.key(name),
        };
        if let (Some(asked), Some(most)) = (read(&request), read(&limit))
            && asked > most
        {
            let shown = limit.text().map(str::to_owned);
            let shown =
                shown.unwrap_or_else(|| limit.value.map(ToString::to_string).unwrap_or_default());
            let why = format!("must be less than or equal to {name} limit of {shown}");
            out.push(request.invalid(&why));
        }
    }
}

/// An amount in either form; what is written wrongly is told elsewhere.
fn read(field: &Field<'_>) -> Option<Quantity> {
    match field.text() {
        Some(text) => Quantity::parse(text),
        None => Quantity::parse(&field.value?.to_string()),
    }
}
