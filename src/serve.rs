//! Serves generations over HTTP: the only asynchronous code. It reads, never builds, and holds no lock.
//!
//! ```text
//! GET /                                      JSON: the profiles and the number of the generation each has
//! GET /PROFILE/Packages[.gz]                 the current generation's index
//! GET /PROFILE/statement.json[.asc], key.asc its statement, signature and key
//! GET /PROFILE/CATEGORY/PACKAGE/FILE         its packages, and those of earlier ones that are still asked for
//! ```
//!
//! `current` is resolved anew for each request, and what it names never changes: a client sees generation N or N+1,
//! never a mixture. A path is parsed into one of the names above before anything is opened, so there is none that leads
//! elsewhere. `Last-Modified` is the index' TIMESTAMP, as the clients' caching needs it; ranges work.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::state::State;

mod files;
mod patient;

/// How long running downloads may take once the server is told to stop.
const FAREWELL: Duration = Duration::from_secs(10);

/// Serves all profiles of a state until `shutdown` is done. Port 0 takes a free one; `on_ready` learns which, and is
/// called once connections are accepted.
pub fn run(
    state: &State,
    address: SocketAddr,
    on_ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .map_err(ServeError::Runtime)?;
    let result = runtime.block_on(async {
        let bind = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        on_ready(listener.local_addr().map_err(bind)?);
        let app = Router::new().fallback(files::answer).with_state(state.clone());
        let (told, heard) = oneshot::channel();
        let server = axum::serve(patient::Listener::new(listener), app).with_graceful_shutdown(async move {
            shutdown.await;
            // Nobody listens any more only when the server itself has failed.
            let _ = told.send(());
        });
        let server = tokio::spawn(server.into_future());
        if heard.await.is_err() {
            return server.await.map_err(io::Error::other).and_then(|result| result).map_err(ServeError::Server);
        }
        // Who has not finished by then is cut off.
        let _ = tokio::time::timeout(FAREWELL, server).await;
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// The server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Threads or timers could not be set up.
    #[error("cannot start the server's threads")]
    Runtime(#[source] io::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`; is another server there? port 0 takes a free one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// It stopped by itself.
    #[error("the server stopped")]
    Server(#[source] io::Error),
}
