//! The waits of the members of a release group for each other: each was foretold as if it were alone.
//!
//! Before each step, and before what comes after the last one, a member waits until all others have come as far
//! ([`super::super::group`]). One that has fewer steps is at its end by then, and is waited for there.

use jiff::SignedDuration;

use super::{Forecast, Wait};
use crate::rollout::group::{Member, Place, Standing, awaited};

/// The release of one member, which will begin with those of the others.
#[derive(Debug)]
pub struct InGroup<'a> {
    /// The name of the Rollout.
    pub name: &'a str,
    /// The release of the group that it says it is of.
    pub release: Option<&'a str>,
    /// As it would go alone.
    pub forecast: &'a mut Forecast,
}

/// Puts the waits for each other into the releases of a group, and moves what comes after them. `others` are members that are not
/// released with them.
pub fn in_step(group: &mut [InGroup<'_>], others: &[Member]) {
    hold_at_the_start(group, others);
    if group.len() < 2 {
        return;
    }
    let steps: Vec<usize> = group.iter().map(|m| steps_of(m.forecast)).collect();
    let names: Vec<String> = group.iter().map(|m| m.name.to_owned()).collect();
    let alone: Vec<Vec<SignedDuration>> = group.iter().map(|m| lengths(m.forecast)).collect();
    // When each member has done what it has to do before the next barrier.
    let mut ready = vec![SignedDuration::ZERO; group.len()];
    let last = steps.iter().copied().max().unwrap_or(0);
    for place in (1..=last).map(Some).chain([None]) {
        let open = ready.iter().copied().max().unwrap_or_default();
        for (i, member) in group.iter_mut().enumerate() {
            if place.is_some_and(|step| steps.get(i).is_none_or(|all| step > *all)) {
                continue;
            }
            let what = others_at(place, i, &names, &steps);
            let (Some(ready), Some(alone)) = (ready.get_mut(i), alone.get(i)) else {
                continue;
            };
            *ready = pass(member.forecast, place, (*ready, open), alone, what);
        }
    }
    for (member, ready) in group.iter_mut().zip(ready) {
        member.forecast.shortest = ready;
    }
}

/// What is told of a member that bars the way of another before its first step, until somebody does something about it.
fn hold_at_the_start(group: &mut [InGroup<'_>], others: &[Member]) {
    let moving: Vec<Member> = group.iter().map(as_complete).collect();
    for (i, member) in group.iter_mut().enumerate() {
        let rest = moving.iter().enumerate().filter(|(j, _)| *j != i);
        let rest = rest.map(|(_, other)| other).chain(others).cloned();
        let rest: Vec<_> = rest.collect();
        let Some(first) = awaited(member.release, Place::Step(0), &rest) else {
            continue;
        };
        let (why, lasts) = match (member.release, first.standing) {
            (Some(release), _) if first.release.as_deref() != Some(release) => {
                (format!("is not of release {release}"), None)
            }
            (_, standing @ (Standing::Invalid | Standing::TakenBack)) => {
                (standing.to_string(), None)
            }
            // How far it is, and how long the rest takes it, is not foretold.
            (_, standing) => (standing.to_string(), Some(SignedDuration::ZERO)),
        };
        let what = format!("{}, which {why}", first.name);
        if let Some(stage) = member.forecast.stages.first_mut() {
            stage.waits.insert(0, Wait { what, lasts });
            member.forecast.persons += usize::from(lasts.is_none());
        }
    }
}

/// A member that is released too bars nobody's first step, unless it is of another release.
fn as_complete(member: &InGroup<'_>) -> Member {
    Member {
        name: member.name.to_owned(),
        release: member.release.map(str::to_owned),
        standing: Standing::Settled,
        taken_back_at: None,
    }
}

fn steps_of(forecast: &Forecast) -> usize {
    let steps = forecast.stages.iter().filter_map(|stage| stage.step);
    steps.max().unwrap_or(0)
}

/// How long each stage lasts alone.
fn lengths(forecast: &Forecast) -> Vec<SignedDuration> {
    let begins = forecast.stages.iter().map(|stage| stage.begins);
    let ends = begins.clone().skip(1).chain([forecast.shortest]);
    ends.zip(begins)
        .map(|(end, begin)| end.saturating_sub(begin))
        .collect()
}

/// Lets a member pass the barrier before a step, from 1, or before what comes after the last one, which is open at a time; when it
/// has done what lies between this one and the next.
fn pass(
    forecast: &mut Forecast,
    place: Option<usize>,
    (mut ready, open): (SignedDuration, SignedDuration),
    alone: &[SignedDuration],
    what: String,
) -> SignedDuration {
    let mut barrier = Some(what);
    let stages = forecast.stages.iter_mut().zip(alone);
    for (stage, lasts) in stages.filter(|(stage, _)| stage.step == place) {
        stage.begins = ready;
        // What goes before a switch may be made ready while the others are on their way.
        let is_preview = place.is_none() && stage.share_percent == 0;
        if is_preview {
            ready = ready.saturating_add(*lasts);
        }
        if let Some(what) = barrier.take() {
            let waits = open.saturating_sub(ready).max(SignedDuration::ZERO);
            let wait = Wait {
                what,
                lasts: Some(waits),
            };
            let position = if is_preview { stage.waits.len() } else { 0 };
            stage.waits.insert(position, wait);
            ready = ready.saturating_add(waits);
        }
        if !is_preview {
            ready = ready.saturating_add(*lasts);
        }
    }
    ready
}

/// Whom a member waits for before a step, or at the end, and where.
fn others_at(place: Option<usize>, own: usize, names: &[String], steps: &[usize]) -> String {
    let others = names.iter().zip(steps).enumerate();
    let others = others.filter(|(i, _)| *i != own).map(|(_, other)| other);
    let (at_step, at_end): (Vec<_>, Vec<_>) =
        others.partition(|(_, all)| place.is_some_and(|step| step <= **all));
    let list = |found: Vec<(&String, &usize)>, place: &str| {
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        (!names.is_empty()).then(|| format!("{} {place}", names.join(", ")))
    };
    let step = place.unwrap_or_default();
    let parts = [
        list(at_step, &format!("at step {step}")),
        list(at_end, "after the last step"),
    ];
    parts
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" and ")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::Stage;
    use super::*;

    /// Steps that last so many minutes each, and what comes after them, which takes no time.
    fn steps(minutes: &[i64]) -> Forecast {
        let mut at = SignedDuration::ZERO;
        let mut forecast = Forecast::default();
        let stage = |step: Option<usize>, begins| Stage {
            step,
            what: "something".into(),
            begins,
            old: 1,
            new: 1,
            share_percent: 50,
            extra: 1,
            waits: Vec::new(),
        };
        for (i, minutes) in minutes.iter().enumerate() {
            forecast.stages.push(stage(Some(i + 1), at));
            at += SignedDuration::from_mins(*minutes);
        }
        forecast.stages.push(stage(None, at));
        forecast.shortest = at;
        forecast
    }

    fn check(
        mut releases: Vec<(&str, Option<&str>, Forecast)>,
        others: &[Member],
        expected: Expect,
    ) {
        let members = releases
            .iter_mut()
            .map(|(name, release, forecast)| InGroup {
                name,
                release: *release,
                forecast,
            });
        in_step(&mut members.collect::<Vec<_>>(), others);
        let mut text = String::new();
        for (name, _, forecast) in &releases {
            for stage in &forecast.stages {
                let waits = stage.waits.iter();
                let waits = waits.map(|wait| format!("{} {:?}", wait.what, wait.lasts));
                let step = stage.step.map_or("-".to_owned(), |step| step.to_string());
                let waits = waits.collect::<Vec<_>>().join(", ");
                text += &format!("{name} +{:?} {step}: {waits}\n", stage.begins);
            }
            text += &format!(
                "{name} in {:?}, {} persons\n",
                forecast.shortest, forecast.persons
            );
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn a_member_waits_at_each_step_for_the_slowest() {
        check(
            vec![
                ("cart", None, steps(&[1, 5])),
                ("orders", None, steps(&[3, 1, 10])),
            ],
            &[],
            expect![[r#"
                cart +0s 1: orders at step 1 Some(0s)
                cart +1m 2: orders at step 2 Some(2m)
                cart +8m -: orders after the last step Some(10m)
                cart in 18m, 0 persons
                orders +0s 1: cart at step 1 Some(0s)
                orders +3m 2: cart at step 2 Some(0s)
                orders +4m 3: cart after the last step Some(4m)
                orders +18m -: cart after the last step Some(0s)
                orders in 18m, 0 persons
            "#]],
        );
    }

    #[test]
    fn a_preview_is_made_ready_before_the_others_are_at_their_end() {
        let mut preview = steps(&[]);
        preview.stages[0].share_percent = 0;
        let switch = Stage {
            share_percent: 100,
            ..preview.stages[0].clone()
        };
        preview.stages.push(switch);
        check(
            vec![("web", None, preview), ("orders", None, steps(&[3]))],
            &[],
            expect![[r#"
                web +0s -: orders after the last step Some(3m)
                web +3m -: 
                web in 3m, 0 persons
                orders +0s 1: web after the last step Some(0s)
                orders +3m -: web after the last step Some(0s)
                orders in 3m, 0 persons
            "#]],
        );
    }

    #[test]
    fn who_bars_the_way_is_told_and_who_is_complete_is_not() {
        let member = |name: &str, standing, release: Option<&str>| Member {
            name: name.into(),
            release: release.map(str::to_owned),
            standing,
            taken_back_at: None,
        };
        let complete = member("a", Standing::Settled, Some("7"));
        check(
            vec![("cart", Some("7"), steps(&[1]))],
            &[
                complete.clone(),
                member("b", Standing::TakenBack, Some("7")),
            ],
            expect![[r#"
                cart +0s 1: b, which was taken back None
                cart +1m -: 
                cart in 1m, 1 persons
            "#]],
        );
        check(
            vec![("cart", Some("8"), steps(&[1]))],
            &[complete],
            expect![[r#"
                cart +0s 1: a, which is not of release 8 None
                cart +1m -: 
                cart in 1m, 1 persons
            "#]],
        );
    }
}
