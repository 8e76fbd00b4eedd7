//! `barograph run`: runs a pipeline until a signal or the given time ends it.
//!
//! SIGINT and SIGTERM stop the sources and drain the rows on their way; a second one ends at once. SIGHUP reads the
//! file again: a bad one is refused and the running pipeline goes on.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::BAD_INPUT;
use super::screen::Screen;
use super::status::{self, Surroundings};
use crate::config::{self, Listen, Pipeline, SinkConfig};
use crate::model::{Secret, Span};
use crate::pipeline::{Metrics, Plan, Runner, SourcePhase, View};
use crate::serve::Server;
use crate::telemetry::Telemetry;
use crate::{Error, Result};

/// Exit code when rows were left that the sinks did not take within the drain limit.
pub const ROWS_LEFT: u8 = 3;
/// Exit code when a second signal ended the drain.
pub const CUT_SHORT: u8 = 4;

/// Run a pipeline: collect, transform, store.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file.
    pub file: PathBuf,
    /// Folder of the store, the checkpoints and the dead letters, instead of the one in the file.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Stop after this time, as in 60s or 5m.
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<Span>,
    /// Where /healthz, /readyz and /metrics are served, instead of the file's settings: ADDRESS:PORT, or none
    #[arg(long, value_name = "ADDR", env = "BAROGRAPH_LISTEN")]
    pub listen: Option<Listen>,
    /// Token that /metrics demands; needed where other machines reach the address
    #[arg(long, value_name = "TOKEN", env = "BAROGRAPH_TOKEN", hide_env_values = true, value_parser = secret)]
    pub token: Option<Secret>,
}

fn secret(text: &str) -> Result<Secret, String> {
    if text.is_empty() { Err("the token is empty".into()) } else { Ok(Secret::new(text)) }
}

/// Runs the command; `screen` is where the log goes. A bad file is told fault by fault, with [`BAD_INPUT`] as exit code.
///
/// # Errors
/// The address cannot be listened on, or a source or sink cannot be started.
pub fn run(args: Args, screen: Screen) -> Result<ExitCode> {
    let runtime = super::runtime()?;
    let result = runtime.block_on(Box::pin(supervise(args, screen)));
    // A thread that hangs in a system call must not keep the process alive.
    runtime.shutdown_background();
    result
}

async fn supervise(args: Args, screen: Screen) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let telemetry = Telemetry::default();
    let mut config = match config::load(&args.file) {
        Ok(config) => config,
        Err(faults) => {
            // Where standard error is closed nobody is told.
            write!(std::io::stderr(), "{faults}").ok();
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    let plan = Plan::new(&config, None, args.data.as_deref(), &telemetry)?;
    // Both are read once: a reload keeps the address.
    let token = args.token.clone().or_else(|| config.settings.token.clone());
    let server = match args.listen.unwrap_or(config.settings.listen) {
        Listen::None => None,
        Listen::At(address) => Some(Server::bind(address, token, Metrics::new(&telemetry)).await?),
    };
    let (address, observed) = server.as_ref().map(|server| (server.address(), server.observed())).unzip();
    let stop_serving = CancellationToken::new();
    let serving = server.map(|server| tokio::spawn(server.run(stop_serving.clone())));
    if let Some(address) = address {
        tracing::info!(%address, "listening");
    }

    let data = plan.data.clone();
    let starting = Box::pin(Runner::start(plan));
    let mut runner = tokio::select! {
        started = starting => started?,
        () = signals.stop.wait() => {
            tracing::info!("stopped before the pipeline was up");
            return Ok(ExitCode::SUCCESS);
        }
    };
    if let Some(observed) = observed {
        observed.started(runner.monitor());
    }
    tracing::info!(pipeline = config.name, data = %data.display(), "pipeline runs");

    let stop_status = CancellationToken::new();
    let status = (Screen::is_terminal() && !prints(&config)).then(|| {
        let surroundings = Surroundings { data, address: address.map(|address| address.to_string()) };
        tokio::spawn(status::show(runner.monitor(), surroundings, screen, stop_status.clone()))
    });
    let over = watch(&mut runner, &mut config, &mut signals, &args, &telemetry).await;
    if let Some(every) = shortest_wait(&runner.monitor().view()) {
        tracing::warn!(every = %Span(every), "no source had a turn yet: they have it at multiples of `every`");
    }
    let ending = if matches!(over, Over::CutShort) {
        None
    } else {
        tracing::info!("stopping: the sources stop, the rows on their way are drained");
        tokio::select! {
            ending = Box::pin(runner.stop()) => Some(ending),
            () = signals.stop.wait() => None,
        }
    };
    stop_serving.cancel();
    stop_status.cancel();
    for task in status.into_iter().chain(serving.map(|task| tokio::spawn(ended(task)))) {
        // Neither is worth waiting for long: a client may hold its connection open.
        let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
    }
    let Some(ending) = ending else {
        tracing::warn!("ended at once by a second signal; rows on their way are lost to this run");
        return Ok(ExitCode::from(CUT_SHORT));
    };
    for (sink, rows) in &ending.kept {
        tracing::info!(sink, rows, "rows wait in the backlog; the next run delivers them");
    }
    for (sink, rows) in &ending.left {
        tracing::warn!(sink, rows, "rows were left: the sink did not take them in time");
    }
    if matches!(over, Over::Broken) {
        return Err(Error::unavailable("run the pipeline", "a part of it failed; the log says which"));
    }
    tracing::info!(rows_left = ending.rows_left(), "stopped");
    Ok(if ending.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(ROWS_LEFT) })
}

/// The shortest interval of a pipeline that could measure and whose first tick has not come.
fn shortest_wait(view: &View) -> Option<Duration> {
    if view.sources.iter().any(|source| source.numbers.last_tick.is_some()) {
        return None;
    }
    let ready = view.sources.iter().filter(|source| source.numbers.phase == SourcePhase::Running);
    ready.map(|source| source.every).min()
}

/// Whether rows are printed onto the terminal, where the live status would be in their way.
fn prints(config: &Pipeline) -> bool {
    let to_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    to_terminal && config.sinks.iter().any(|(_, sink)| matches!(sink, SinkConfig::Stdout(_)))
}

async fn ended(serving: JoinHandle<Result<()>>) {
    if let Ok(Err(error)) = serving.await {
        tracing::error!(error = error.chain(), "serving ended");
    }
}

/// Why a pipeline is to end.
#[derive(Clone, Copy)]
enum Over {
    /// A signal or the given time.
    Stop,
    /// A part failed that it cannot go on without.
    Broken,
    /// A second signal, which waits for nothing.
    CutShort,
}

/// Reloads as often as asked, until it is time to stop. That is heard at any time: it cuts a reload short.
async fn watch(
    runner: &mut Runner,
    config: &mut Pipeline,
    signals: &mut Signals,
    args: &Args,
    telemetry: &Telemetry,
) -> Over {
    let time = args.duration;
    let time_is_up = async move {
        match time {
            Some(time) => tokio::time::sleep(time.0).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(time_is_up);
    let failed = runner.failed();
    tokio::pin!(failed);
    let Signals { stop, hangup } = signals;
    let mut over = async || {
        tokio::select! {
            biased;
            () = &mut failed => Over::Broken,
            () = stop.wait() => Over::Stop,
            () = &mut time_is_up => Over::Stop,
        }
    };
    loop {
        tokio::select! {
            biased;
            over = over() => return over,
            _ = hangup.recv() => {}
        }
        tracing::info!(file = %args.file.display(), "reloading");
        let cut = CancellationToken::new();
        let reloading = reload(runner, config, args, telemetry, &cut);
        tokio::pin!(reloading);
        let over = tokio::select! {
            biased;
            () = &mut reloading => continue,
            over = over() => over,
        };
        tracing::info!("the reload is cut short, because the pipeline is to stop");
        cut.cancel();
        return tokio::select! {
            () = reloading => over,
            () = stop.wait() => Over::CutShort,
        };
    }
}

async fn reload(
    runner: &mut Runner,
    config: &mut Pipeline,
    args: &Args,
    telemetry: &Telemetry,
    cut: &CancellationToken,
) {
    let loaded = config::load(&args.file).map_err(|faults| {
        for fault in faults.iter() {
            let place = fault.place.map_or_else(String::new, |place| format!(":{}", place.start));
            tracing::error!(
                at = format!("{}{place}", faults.file()),
                help = (!fault.help.is_empty()).then(|| fault.help.join("; ")),
                "{}",
                fault.message
            );
        }
        let reason = format!("faults in it: {}; barograph check shows them", faults.count());
        Error::invalid("use the pipeline file", reason).with_resource(faults.file())
    });
    let planned = loaded.and_then(|next| {
        let plan = Plan::new(&next, Some(config), args.data.as_deref(), telemetry)?;
        Ok((next, plan))
    });
    let result = match planned {
        Ok((next, plan)) => Box::pin(runner.reload(plan, cut)).await.map(|()| *config = next),
        Err(error) => {
            runner.refused();
            Err(error)
        }
    };
    match result {
        Ok(()) => tracing::info!(file = %args.file.display(), "reloaded"),
        Err(_) if cut.is_cancelled() => {}
        Err(error) => {
            tracing::error!(error = error.chain(), "the reload is refused; the running pipeline goes on");
        }
    }
}

/// The signals that a pipeline listens to.
struct Signals {
    stop: StopSignals,
    hangup: Signal,
}

struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Error::unavailable("listen to signals", "the system refused").with_source(error)
            })
        };
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { stop: StopSignals { interrupt, terminate }, hangup: listen(SignalKind::hangup())? })
    }
}

impl StopSignals {
    /// Waits for the wish to stop.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Settings;

    #[test]
    fn the_usual_address_is_the_servers() {
        assert_eq!(Settings::default().listen, crate::serve::DEFAULT_ADDRESS.parse().unwrap());
    }
}
