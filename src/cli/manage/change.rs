//! From planned changes to done ones: the plan shown, the guard asked, the steps carried out with progress, the outcome
//! printed.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use parking_lot::Mutex;

use super::arguments::{Changing, target};
use super::{exit, tell};
use crate::cli::output::Format;
use crate::cli::screen::Screen;
use crate::manage::{Executor, Journal, Managed, Operation, Phase, Prepared, Progress, rest};
use crate::provider::Token;
use crate::{Error, Result};

/// Operations that were begun by this process and are not over: what Ctrl-C has to tell.
static IN_FLIGHT: Mutex<Vec<Operation>> = Mutex::new(Vec::new());

/// Shows, guards and carries out.
pub(super) async fn carry_out(
    managed: &[Managed],
    prepared: Vec<Prepared>,
    changing: &Changing,
    screen: &Screen,
) -> Result<ExitCode> {
    if changing.dry_run {
        return only_shown(&prepared, changing);
    }
    let approved =
        changing.guard().approve(prepared, async |prepared| confirm(prepared, changing.yes).await).await?;
    let journal = Journal::open(&changing.data)?;
    let began = Instant::now();
    let progress = |operation: &Operation, progress: Progress<'_>| draw(screen, began, operation, &progress);
    let (mut operations, mut ended) = (Vec::new(), Vec::new());
    for approved in approved {
        let client = &find(managed, approved.provider())?.client;
        let executor = Executor::new(client, &journal, changing.waiting(), &progress);
        let (operation, end) = executor.run(approved, &|operation| begun(operation)).await;
        over(operation.id);
        screen.draw(Vec::new());
        report(&operation, &end);
        operations.push(operation);
        ended.push(end);
    }
    print_outcomes(&operations, changing.format)?;
    Ok(exit::of_many(&ended))
}

/// Prints plans and changes nothing. The limits are told, and hold nobody from seeing what they would refuse.
fn only_shown(prepared: &[Prepared], changing: &Changing) -> Result<ExitCode> {
    print_plans(prepared, changing.format)?;
    if let Err(refusal) = changing.guard().check(prepared) {
        tell(&format!("it would be refused: {}", refusal.chain()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Goes on with an operation of the journal, as a new command would: what is left of it is shown, guarded and confirmed.
pub(super) async fn go_on(
    managed: &Managed,
    journal: &Journal,
    operation: Operation,
    changing: &Changing,
    screen: &Screen,
) -> Result<ExitCode> {
    let rest = rest(managed, operation.clone()).await?;
    if changing.dry_run {
        return only_shown(std::slice::from_ref(&rest.prepared), changing);
    }
    let confirm = async |prepared: &[Prepared]| confirm(prepared, changing.yes).await;
    let approved = changing.guard().approve_rest(rest, confirm).await?;
    let began = Instant::now();
    let progress = |operation: &Operation, progress: Progress<'_>| draw(screen, began, operation, &progress);
    begun(&operation);
    let executor = Executor::new(&managed.client, journal, changing.waiting(), &progress);
    let (operation, end) = executor.resume(approved).await;
    over(operation.id);
    screen.draw(Vec::new());
    report(&operation, &end);
    print_outcomes(std::slice::from_ref(&operation), changing.format)?;
    Ok(exit::of_many(&[end]))
}

/// The provider of this name.
pub(super) fn find<'a>(managed: &'a [Managed], name: &str) -> Result<&'a Managed> {
    managed.iter().find(|managed| managed.name == name).ok_or_else(|| {
        Error::new(crate::ErrorKind::NotFound, "find provider", "it is not among those that were opened")
            .with_resource(name)
    })
}

/// Tells what is still on its way, and how to go on with it.
pub(super) fn tell_in_flight() {
    for operation in IN_FLIGHT.lock().iter() {
        tell(&format!("in flight: {} (operation {})", operation.plan.wanted, operation.id));
        if let Some(id) = operation.resource() {
            tell(&format!("  resource: {id}"));
        }
        tell(&format!("  go on with: barograph operations resume {}", operation.id));
    }
}

fn begun(operation: &Operation) {
    IN_FLIGHT.lock().push(operation.clone());
}

/// What is known by now of an operation in flight: what it has made, above all.
fn went_on(operation: &Operation) {
    if let Some(known) = IN_FLIGHT.lock().iter_mut().find(|known| known.id == operation.id) {
        known.clone_from(operation);
    }
}

fn over(id: Token) {
    IN_FLIGHT.lock().retain(|operation| operation.id != id);
}

/// Asks on a terminal; elsewhere `--yes` has to say it.
async fn confirm(prepared: &[Prepared], yes: bool) -> Result<bool> {
    if yes {
        return Ok(true);
    }
    for prepared in prepared {
        tell(&prepared.plan.to_string());
    }
    if !std::io::stdin().is_terminal() {
        let reason = "there is no terminal to confirm it on; look at the plan and add --yes";
        return Err(Error::new(crate::ErrorKind::Protected, "go on", reason));
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "Go on? [y/N] ").ok();
    stderr.flush().ok();
    let answer = answer().await.map_err(|error| Error::io("read the answer from", "the terminal", error))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// A line from the terminal, read on a thread of its own: who presses Ctrl-C instead of answering is heard, and the thread
/// ends with the process.
async fn answer() -> std::io::Result<String> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("answer".into()).spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        tell.send(read.map(|_| line)).ok();
    })?;
    told.await.map_err(|_| std::io::Error::other("the reading thread is gone"))?
}

fn draw(screen: &Screen, began: Instant, operation: &Operation, progress: &Progress<'_>) {
    went_on(operation);
    if !Screen::is_terminal() {
        return;
    }
    let label = &operation.plan.label;
    let of = operation.plan.steps.len();
    let line = match progress {
        Progress::Step(step, action) => format!("{label}: {}/{of} {action}", step + 1),
        Progress::Taken(step) => format!("{label}: {}/{of} taken on", step + 1),
        Progress::State(step, state) => format!("{label}: {}/{of} it is {state}", step + 1),
        Progress::Undo(step, action) => format!("{label}: taking back {}/{of}: {action}", step + 1),
    };
    screen.draw(vec![format!("{line}, {:.0} s", began.elapsed().as_secs_f64())]);
}

/// What happened, in words, for people.
fn report(operation: &Operation, end: &Result<()>) {
    for note in operation.notes() {
        tell(&format!("note: {}: {note}", operation.plan.label));
    }
    for left in operation.plan.leaves.iter().filter(|_| operation.phase == Phase::Done) {
        tell(&format!("left behind: {}", left.what));
    }
    let Err(error) = end else { return };
    tell(&format!("failed: {}", error.chain()));
    for more in operation.errors.iter().skip(1) {
        tell(&format!("  {more}"));
    }
    let id = operation.id;
    match operation.phase {
        Phase::Unwound => tell("  everything is as it was before"),
        Phase::Partial => {
            tell(&format!("  a part is done, or may be; go on with: barograph operations resume {id}"));
        }
        Phase::Stuck | Phase::Unwinding => {
            tell(&format!(
                "  not everything could be taken back; try again with: barograph operations resume {id}"
            ));
        }
        Phase::Running => tell(&format!("  it may go on; look with: barograph operations resume {id}")),
        Phase::Abandoned => {
            tell("  whether it happened is not known; look, and give the command again if not");
        }
        Phase::InFlight | Phase::Done => {}
    }
}

/// Plans as people read them, or as JSON: the objects that are carried out, but for values that may be secrets.
fn print_plans(prepared: &[Prepared], format: Option<Format>) -> Result<()> {
    let target = target(format)?;
    let mut text = String::new();
    let json = |plan: &crate::provider::Plan, pretty: bool| {
        let plan = plan.shown();
        let written = if pretty { serde_json::to_string_pretty(&plan) } else { serde_json::to_string(&plan) };
        written.map_err(|error| {
            Error::invalid("print the plan", "it cannot be written as JSON").with_source(error)
        })
    };
    match target.format() {
        Format::Table => {
            for prepared in prepared {
                text.push_str(&format!("{}\n", prepared.plan));
            }
        }
        Format::Json => {
            let plans =
                prepared.iter().map(|prepared| json(&prepared.plan, true)).collect::<Result<Vec<_>>>()?;
            text = format!("[{}]\n", plans.join(",\n"));
        }
        Format::Ndjson => {
            for prepared in prepared {
                text.push_str(&json(&prepared.plan, false)?);
                text.push('\n');
            }
        }
        Format::Csv | Format::Parquet => {
            return Err(Error::invalid(
                "print the plan",
                "a plan is no table; use --format table, json or ndjson",
            ));
        }
    }
    super::super::print(&text)
}

/// One row for each operation.
fn print_outcomes(operations: &[Operation], format: Option<Format>) -> Result<()> {
    let rows: Vec<_> = operations.iter().map(outcome).collect();
    let mut output = target(format)?.open(outcome_schema())?;
    let batch = outcomes(&rows)?;
    if output.write(&batch)?.is_continue() {
        output.finish()?;
    }
    Ok(())
}

const OUTCOME: [&str; 7] = ["operation", "action", "name", "id", "phase", "changed", "error"];

fn outcome(operation: &Operation) -> [Option<String>; 7] {
    [
        Some(operation.id.to_string()),
        Some(format!("{} {}", operation.plan.wanted.verb(), operation.plan.wanted.kind())),
        Some(operation.plan.label.clone()),
        operation.resource().map(|id| id.to_string()),
        Some(operation.phase.to_string()),
        Some(operation.changed().to_string()),
        operation.errors.first().cloned(),
    ]
}

fn outcome_schema() -> Arc<Schema> {
    let kind = |name: &str| if name == "changed" { DataType::Boolean } else { DataType::Utf8 };
    let fields = OUTCOME.map(|name| Field::new(name, kind(name), true));
    Arc::new(Schema::new(fields.to_vec()))
}

/// The table of operations, also for `operations list`.
pub(super) fn outcomes(rows: &[[Option<String>; 7]]) -> Result<RecordBatch> {
    use arrow::array::{ArrayRef, BooleanArray, StringArray};
    let column = |at: usize| -> ArrayRef {
        let values = rows.iter().map(|row| row[at].as_deref());
        if OUTCOME[at] == "changed" {
            Arc::new(values.map(|value| value.map(|value| value == "true")).collect::<BooleanArray>())
        } else {
            Arc::new(values.collect::<StringArray>())
        }
    };
    RecordBatch::try_new(outcome_schema(), (0..OUTCOME.len()).map(column).collect())
        .map_err(|error| Error::invalid("print what was done", "the rows do not fit").with_source(error))
}

/// The rows of `operations list`.
pub(super) fn listed(operations: &[Operation]) -> Result<RecordBatch> {
    outcomes(&operations.iter().map(outcome).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::{Kind, ResourceId};
    use crate::provider::{Action, InstanceSpec, Plan};

    #[test]
    fn what_is_told_of_an_operation_in_flight_is_what_is_known_by_now() {
        let plan = Plan::simple(&Action::CreateInstance { spec: InstanceSpec::default() }, None);
        let mut operation = Operation::new("here", None, plan);
        begun(&operation);
        let made: ResourceId = "kvm/a/here/instance/i".parse().unwrap();
        assert_eq!(made.kind, Kind::Instance);
        operation.steps[0].made = Some(made.clone());
        went_on(&operation);
        let known = |id| IN_FLIGHT.lock().iter().find(|known| known.id == id).map(Operation::resource);
        assert_eq!(known(operation.id), Some(Some(made)));
        over(operation.id);
        assert_eq!(known(operation.id), None);
    }
}
