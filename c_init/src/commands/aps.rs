//! `aps`: the table of actors (SPEC C2, DESIGN section 7).

use clap::Args;
use hr_ctrl::limits::{LimitRow, LimitRows};
use hr_ctrl::site::{ActorInfo, WatchInfo};

use super::{CommandError, Flow, Outcome};
use crate::interpreter::Context;
use crate::table::{NOTHING, cell, columns, span};

const SHORT: [&str; 10] = [
    "NAME", "GID", "AID", "PID", "KIND", "STATE", "LIFE", "RESTARTS", "START", "LAST END",
];
const LONG: [&str; 11] = [
    "UPTIME",
    "MODE",
    "CAPABILITY",
    "PATH",
    "NOTICE",
    "KEEPER",
    "IMAGE",
    "USER",
    "LIMITS",
    "WATCH",
    "REASON",
];

/// `aps`: lists the actors.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "aps [-l] [--json]")]
pub struct Aps {
    /// more columns: of the life that runs, of how it starts, and of the last failure
    #[arg(short)]
    pub long: bool,
    /// an array of objects, for programs
    #[arg(long)]
    pub json: bool,
}

impl Aps {
    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        let actors = cx.site()?.actors().await.map_err(CommandError::failed)?;
        cx.out(if self.json {
            json(&actors)?
        } else {
            text(&actors, self.long)
        });
        Ok(Flow::Next)
    }
}

/// A value as JSON, with a newline at the end.
pub(crate) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, CommandError> {
    let text = serde_json::to_string_pretty(value).map_err(CommandError::failed)?;
    Ok(text + "\n")
}

fn text(actors: &[ActorInfo], long: bool) -> String {
    let mut header = SHORT.to_vec();
    if long {
        header.extend(LONG);
    }
    let rows: Vec<_> = actors.iter().map(|actor| row(actor, long)).collect();
    columns(&header, &rows)
}

fn row(actor: &ActorInfo, long: bool) -> Vec<String> {
    let mut row = vec![
        actor.name.clone(),
        cell(actor.gid),
        cell(actor.aid),
        cell(actor.pid),
        actor.kind.to_owned(),
        actor.state.to_owned(),
        cell(actor.life),
        actor.restarts.to_string(),
        actor.start.unwrap_or(NOTHING).to_owned(),
        cell(actor.last_end.as_ref()),
    ];
    if long {
        row.extend([
            actor.uptime_ms.map_or_else(|| NOTHING.to_owned(), span),
            actor.mode.to_owned(),
            cell(actor.capability.as_ref()),
            actor.path.clone(),
            cell(actor.notice),
            if actor.keeper { "yes" } else { "no" }.to_owned(),
            actor.image.to_owned(),
            cell(actor.user.as_ref()),
            limits(&actor.limits),
            actor
                .watch
                .as_ref()
                .map_or_else(|| NOTHING.to_owned(), watch),
            cell(actor.start_reason.as_ref()),
            cell(actor.failure.as_ref()),
        ]);
    }
    row
}

/// Each limit with what enforces it.
fn limits(rows: &LimitRows) -> String {
    let one = |(name, row): (&&str, &LimitRow)| {
        let unit = match *name {
            "memory" => " B",
            "cpu" => "%",
            _ => "",
        };
        format!("{name} {}{unit} ({})", row.limit, row.by)
    };
    let all: Vec<_> = rows.iter().map(one).collect();
    if all.is_empty() {
        return NOTHING.to_owned();
    }
    all.join(", ")
}

/// How a life is watched for hangs, and how it is.
fn watch(watch: &WatchInfo) -> String {
    let mut parts = Vec::new();
    if let Some(period) = watch.progress_ms {
        parts.push(format!("progress {}", span(period.into())));
    }
    parts.extend(watch.check.as_ref().map(|check| format!("check {check}")));
    parts.extend(watch.well_ms.map(|ago| format!("well {} ago", span(ago))));
    if let (Some(failed), Some(failures)) = (watch.failed, watch.failures) {
        parts.push(format!("failed {failed} of {failures}"));
    }
    parts.extend(watch.trouble.clone());
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor() -> ActorInfo {
        ActorInfo {
            name: "redis-server".into(),
            gid: Some(1),
            aid: Some(7),
            capability: Some("00".repeat(16)),
            pid: Some(4321),
            kind: "direct",
            mode: "user",
            state: "running",
            life: Some(1),
            restarts: 1,
            start: Some("standby"),
            image: "cold",
            start_reason: None,
            last_end: Some("SIGSEGV".into()),
            notice: Some("fault"),
            failure: None,
            limits: LimitRows::from([(
                "memory",
                LimitRow {
                    limit: 1 << 20,
                    by: "cgroup v2 memory.max",
                },
            )]),
            user: Some("nobody".into()),
            no_new_privs: true,
            keeper: true,
            watch: Some(WatchInfo {
                progress_ms: Some(5000),
                check: Some("redis-cli ping".into()),
                well_ms: Some(1200),
                failed: Some(1),
                failures: Some(3),
                trouble: Some("exit 1".into()),
            }),
            path: "/usr/bin/redis-server".into(),
            uptime_ms: Some(1500),
        }
    }

    #[test]
    fn c2_a_table_has_a_header_and_a_line_for_each_actor() {
        let text = text(&[actor()], false);
        let lines: Vec<_> = text
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>())
            .collect();
        assert_eq!(
            lines[0],
            [
                "NAME", "GID", "AID", "PID", "KIND", "STATE", "LIFE", "RESTARTS", "START", "LAST",
                "END"
            ]
        );
        assert_eq!(
            lines[1],
            [
                "redis-server",
                "1",
                "7",
                "4321",
                "direct",
                "running",
                "1",
                "1",
                "standby",
                "SIGSEGV"
            ]
        );
    }

    #[test]
    fn c2_the_long_table_adds_columns_and_json_is_an_array() {
        let text = text(&[actor()], true);
        assert!(
            text.contains("CAPABILITY") && text.contains("/usr/bin/redis-server"),
            "{text}"
        );
        let value: serde_json::Value = serde_json::from_str(&json(&[actor()]).unwrap()).unwrap();
        let told = "progress 5.0s, check redis-cli ping, well 1.2s ago, failed 1 of 3, exit 1";
        assert!(text.contains(told), "{text}");
        assert_eq!(value[0]["watch"]["progress_ms"], 5000);
        assert_eq!(value[0]["last_end"], "SIGSEGV");
        assert_eq!(value[0]["gid"], 1);
        assert!(
            text.contains("memory 1048576 B (cgroup v2 memory.max)"),
            "{text}"
        );
        assert_eq!(value[0]["limits"]["memory"]["by"], "cgroup v2 memory.max");
    }
}
