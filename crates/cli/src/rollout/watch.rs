//! `serin rollout watch`: the picture of a workload, drawn again in place at each change.

use std::time::Duration;

use jiff::Timestamp;

use super::follow::{Follower, Moment};
use super::objects::{Objects, Target, Workload};
use super::render::{render, summary};
use super::view::view;
use crate::client::Client;
use crate::context::Context;
use crate::error::CliError;

/// How often ages and countdowns are drawn anew.
const TICK: Duration = Duration::from_secs(1);

/// Shows the workload until a person ends it or it is deleted.
pub(super) async fn watch(
    context: &Context,
    client: &Client,
    target: &Target,
) -> Result<(), CliError> {
    let workload = Workload::fetch(client, target).await?;
    let mut follower = Follower::start(client, &workload);
    if context.printer.is_terminal() {
        redraw(context, &workload, &mut follower).await
    } else {
        lines(context, &workload, &mut follower).await
    }
}

async fn redraw(
    context: &Context,
    workload: &Workload,
    follower: &mut Follower,
) -> Result<(), CliError> {
    let mut ticks = tokio::time::interval(TICK);
    let mut screen = Screen::default();
    let mut seen: Option<Box<Objects>> = None;
    let mut trouble = None;
    loop {
        tokio::select! {
            moment = follower.next() => match moment? {
                Moment::Here(objects) => (seen, trouble) = (Some(objects), None),
                Moment::Gone => return Err(deleted(workload)),
                Moment::Trouble(why) => trouble = Some(why),
            },
            _ = ticks.tick() => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        let Some(objects) = &seen else { continue };
        let mut text = render(&view(objects, Timestamp::now()), context.look());
        if let Some(why) = &trouble {
            text.push_str(&format!("\nthe API is away, trying again: {why}\n"));
        }
        let (_, rows) = context.printer.size();
        context.printer.raw(screen.draw(&text, rows).as_bytes())?;
    }
}

async fn lines(
    context: &Context,
    workload: &Workload,
    follower: &mut Follower,
) -> Result<(), CliError> {
    let mut last = String::new();
    loop {
        let moment = tokio::select! {
            moment = follower.next() => moment?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let now = Timestamp::now();
        let line = match moment {
            Moment::Here(objects) => summary(&view(&objects, now)),
            Moment::Gone => return Err(deleted(workload)),
            Moment::Trouble(why) => {
                context
                    .printer
                    .warning(format!("the API is away, trying again: {why}"));
                continue;
            }
        };
        if line != last {
            context.printer.result(format!("{now:.0} {line}"))?;
            last = line;
        }
    }
}

/// What to say when a workload that is looked at goes away.
pub(super) fn deleted(workload: &Workload) -> CliError {
    CliError::failed(format!("{} was deleted", workload.reference()))
}

/// Draws a text over the one before.
#[derive(Default)]
struct Screen {
    lines: usize,
}

impl Screen {
    /// What to write so that `text` stands where the last one stood; cut to the rows of the terminal, as what has scrolled
    /// away cannot be drawn over.
    fn draw(&mut self, text: &str, rows: Option<usize>) -> String {
        let room = rows.unwrap_or(usize::MAX).saturating_sub(1).max(1);
        let mut out = String::new();
        if self.lines > 0 {
            out.push_str(&format!("\x1b[{}A", self.lines));
        }
        let all = text.lines().count();
        let shown = if all > room { room - 1 } else { all };
        for line in text.lines().take(shown) {
            out.push_str(&format!("\r{line}\x1b[K\n"));
        }
        if all > room {
            out.push_str(&format!("\r({} more lines)\x1b[K\n", all - shown));
        }
        out.push_str("\x1b[J");
        self.lines = shown + usize::from(all > room);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_drawn_over_the_last_one() {
        let mut screen = Screen::default();
        assert_eq!(screen.draw("a\nb\n", None), "\ra\x1b[K\n\rb\x1b[K\n\x1b[J");
        assert_eq!(screen.draw("c\n", None), "\x1b[2A\rc\x1b[K\n\x1b[J");
        let cut = screen.draw("1\n2\n3\n4\n", Some(4));
        assert_eq!(
            cut,
            "\x1b[1A\r1\x1b[K\n\r2\x1b[K\n\r(2 more lines)\x1b[K\n\x1b[J"
        );
    }
}
