//! `bindery serve`: the published generations over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::binhost::generation;
use crate::cli::context::Context;
use crate::cli::report::{self, Failure, Kind, Outcome, say};
use crate::serve;

/// Arguments of `bindery serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The address to listen on; port 0 takes a free one; without it, that of bindery.toml or 127.0.0.1:8478
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

/// Where it listens if nobody says otherwise: only this machine.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8478);
/// How long a signal may go unnoticed.
const LOOK: Duration = Duration::from_millis(100);

/// Serves until a signal comes.
pub(super) fn serve(cx: &Context, args: &Args) -> Outcome {
    let address = args.listen.or(cx.config.listen).unwrap_or(LISTEN);
    let cancel = Arc::clone(&cx.cancel);
    let stopped = async move {
        while !cancel.load(Ordering::SeqCst) {
            tokio::time::sleep(LOOK).await;
        }
    };
    let ready = |address: SocketAddr| {
        if cx.json {
            // Nobody may be reading: that is no reason not to serve.
            let _ = report::print_json(&serde_json::json!({ "uri": format!("http://{address}/") }));
        }
        say(&format!("serving http://{address}/PROFILE from {}", cx.state.profiles().display()));
        for (profile, _) in generation::published(&cx.state) {
            say(&format!("  http://{address}/{profile}"));
        }
    };
    serve::run(&cx.state, address, ready, stopped).map_err(|e| Failure::new(Kind::System, e))
}
