//! `whimbrel rollout`: bringing a published version to devices in stages.

use crate::{
    client::{Client, Connection, RolloutAction},
    duration,
    error::Failure,
    output::{Output, moment, table},
};
use clap::{Args, Subcommand, ValueEnum};
use semver::Version;
use std::{io::IsTerminal as _, time::Duration};
use whimbrel_wire::{
    ModelName,
    api::{NewRollout, OnFailure, RolloutState, RolloutView},
};

/// Time between two looks at a rollout that is watched.
const WATCH_EVERY: Duration = Duration::from_secs(1);

mod plan;

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Whom a rollout would ask and what they would fetch; nothing is started
    #[command(after_help = "\
Example:
  whimbrel rollout plan digits 1.2.0 --stages 1,10,100 --tag line-3

Takes the same options as `rollout start`. The figures go by the bundle of the model that each device last reported as active: one
that holds more, such as the version before it, fetches less.")]
    Plan(NewArgs),
    /// Ask devices to run a published version, a part of the fleet at a time
    #[command(after_help = "\
Examples:
  whimbrel rollout start digits 1.2.0
  whimbrel rollout start digits 1.2.0 --stages 1,10,100 --soak 30m --on-failure roll-back --tag line-3")]
    Start(NewArgs),
    /// Where a rollout stands
    #[command(after_help = "\
With --watch it follows the rollout until it no longer runs: exit 0 when it is done, 1 when it was paused, aborted or
taken back.")]
    Status {
        /// The rollout; the newest where not given
        id: Option<String>,
        /// Follow it until it no longer runs
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Every rollout, newest first
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Ask no more devices until it is resumed
    Pause(OneRollout),
    /// Go on where it was paused
    Resume(OneRollout),
    /// Give it up; devices that have the version keep it
    Abort(OneRollout),
    /// Give it up and ask its devices to go back
    Rollback(OneRollout),
}

#[derive(Debug, Args)]
pub(crate) struct OneRollout {
    /// The rollout
    id: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The model
    model: ModelName,
    /// The version, published before
    version: Version,
    /// Share of the fleet after each stage in percent, ascending, the last 100
    #[arg(long, value_name = "PERCENT,…", default_value = "10,50,100", value_parser = stages)]
    stages: Stages,
    /// Share of a stage's devices that must confirm before the next stage, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 95, value_parser = clap::value_parser!(u8).range(0..=100))]
    success: u8,
    /// Only devices with this tag; may repeat, then devices with all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// What happens when too many devices of a stage fail
    #[arg(long, value_enum, default_value_t = FailurePolicy::Pause)]
    on_failure: FailurePolicy,
    /// Time between a passed stage and the next
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    soak: Duration,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailurePolicy {
    /// Ask no new device
    Pause,
    /// Ask its devices to go back
    RollBack,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stages(Vec<u8>);

fn stages(text: &str) -> Result<Stages, String> {
    const FORM: &str = "expected percentages from 1 to 100, ascending, the last 100, such as 10,50,100";
    let list: Vec<u8> =
        text.split(',').map(|p| p.trim().parse()).collect::<Result<_, _>>().map_err(|_| FORM)?;
    let ascending = list.windows(2).all(|w| w[0] < w[1]);
    if list[0] >= 1 && ascending && list.last() == Some(&100) {
        Ok(Stages(list))
    } else {
        Err(FORM.to_owned())
    }
}

pub(crate) async fn run(command: RolloutCommand, output: Output) -> Result<(), Failure> {
    match command {
        RolloutCommand::Plan(args) => {
            let planned = args.connection.client()?.plan_rollout(&args.rollout()?).await?;
            output.emit(&planned, plan::describe)
        }
        RolloutCommand::Start(args) => start(&args, output).await,
        RolloutCommand::Status { id, watch, connection } => {
            let client = connection.client()?;
            let rollout = find(&client, id.as_deref()).await?;
            if watch { follow(&client, rollout, output).await } else { output.emit(&rollout, show) }
        }
        RolloutCommand::List { connection } => {
            let rollouts = connection.client()?.rollouts().await?;
            output.emit(&serde_json::json!({ "rollouts": rollouts }), |_| list(&rollouts))
        }
        RolloutCommand::Pause(one) => act(one, RolloutAction::Pause, output).await,
        RolloutCommand::Resume(one) => act(one, RolloutAction::Resume, output).await,
        RolloutCommand::Abort(one) => act(one, RolloutAction::Abort, output).await,
        RolloutCommand::Rollback(one) => act(one, RolloutAction::Rollback, output).await,
    }
}

impl NewArgs {
    fn rollout(&self) -> Result<NewRollout, Failure> {
        let soak_s = duration::seconds_u32(self.soak)
            .map_err(|e| Failure::usage("reading the duration of --soak", e))?;
        Ok(NewRollout {
            model: self.model.clone(),
            version: self.version.clone(),
            stages: self.stages.0.clone(),
            tags: self.tags.clone(),
            success_percent_min: self.success,
            on_failure: match self.on_failure {
                FailurePolicy::Pause => OnFailure::Pause,
                FailurePolicy::RollBack => OnFailure::RollBack,
            },
            soak_s,
        })
    }
}

/// People are told what devices fetch; what cannot be planned is left to the start, which says why or goes on without.
async fn start(args: &NewArgs, output: Output) -> Result<(), Failure> {
    let new = args.rollout()?;
    let client = args.connection.client()?;
    let planned = if output.json { None } else { client.plan_rollout(&new).await.ok() };
    if let Some(planned) = &planned {
        eprintln!("{}", plan::in_short(&planned.total));
    }
    let rollout = client.start_rollout(&new).await?;
    output.emit(&rollout, show)
}

async fn act(one: OneRollout, action: RolloutAction, output: Output) -> Result<(), Failure> {
    let rollout = one.connection.client()?.act_on_rollout(&one.id, action).await?;
    output.emit(&rollout, show)
}

async fn find(client: &Client, id: Option<&str>) -> Result<RolloutView, Failure> {
    match id {
        Some(id) => client.rollout(id).await,
        None => client.rollouts().await?.into_iter().next().ok_or_else(|| {
            Failure::usage("looking for the newest rollout", "there is none")
                .hint("`whimbrel rollout start MODEL VERSION` makes one")
        }),
    }
}

async fn follow(client: &Client, mut rollout: RolloutView, output: Output) -> Result<(), Failure> {
    let mut last = String::new();
    while rollout.state == RolloutState::Running {
        let line = in_short(&rollout);
        if line != last && std::io::stderr().is_terminal() {
            eprintln!("{line}");
            last = line;
        }
        tokio::time::sleep(WATCH_EVERY).await;
        rollout = client.rollout(&rollout.id).await?;
    }
    output.emit(&rollout, show)?;
    if rollout.state == RolloutState::Done {
        return Ok(());
    }
    let why = format!("{}: {}", state(rollout.state), rollout.state_reason);
    Err(Failure::failed(format!("following rollout {}", rollout.id), why))
}

fn list(rollouts: &[RolloutView]) -> String {
    let rows: Vec<Vec<String>> = rollouts
        .iter()
        .map(|r| {
            let counts = &r.counts;
            vec![
                r.id.clone(),
                format!("{} {}", r.spec.model, r.spec.version),
                state(r.state).to_owned(),
                format!("{}/{}", u64::from(r.stage) + 1, r.spec.stages.len()),
                format!("{} of {}", counts.active, counts.matched),
                format!("{}", counts.rejected + counts.rolled_back),
                moment(r.created_ms),
            ]
        })
        .collect();
    table(&["ROLLOUT", "WHAT", "STATE", "STAGE", "ACTIVE", "FAILED", "CREATED"], &rows)
}

fn show(r: &RolloutView) -> String {
    let stages: Vec<String> = r.spec.stages.iter().map(|s| format!("{s} %")).collect();
    format!(
        "rollout  {}\nwhat     {} {}\nstate    {}: {}\nstages   {} (now {} of {})\ndevices  {}\ncreated  {}\n",
        r.id,
        r.spec.model,
        r.spec.version,
        state(r.state),
        r.state_reason,
        stages.join(", "),
        u64::from(r.stage) + 1,
        stages.len(),
        counts(r),
        moment(r.created_ms),
    )
}

fn in_short(r: &RolloutView) -> String {
    let stage = u64::from(r.stage) + 1;
    format!("{} stage {stage} of {}: {}", state(r.state), r.spec.stages.len(), counts(r))
}

fn counts(r: &RolloutView) -> String {
    let c = &r.counts;
    format!(
        "{} match, {} asked, {} active, {} refused it, {} took it back",
        c.matched, c.asked, c.active, c.rejected, c.rolled_back
    )
}

/// A state in words.
const fn state(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Running => "running",
        RolloutState::Paused => "paused",
        RolloutState::Done => "done",
        RolloutState::Aborted => "aborted",
        RolloutState::RolledBack => "rolled back",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_ascend_to_the_whole_fleet() {
        assert_eq!(stages("100"), Ok(Stages(vec![100])));
        assert_eq!(stages("1, 10,100"), Ok(Stages(vec![1, 10, 100])));
        for bad in ["", "0,100", "10", "100,100", "50,10,100", "10,101", "a,100", "10,,100", "-1,100"] {
            assert!(stages(bad).is_err(), "accepted {bad:?}");
        }
    }
}
