//! `urtext serve`: the daemon, from its directory to its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{info, warn};
use urtext_identity::{
    COORDINATOR_LIFETIME, CertificateAuthority, Credentials, IdentityError, ServerTls, incoming, replace_public,
};
use urtext_types::{Chain, ErrorKind};

use crate::{
    Fault,
    app::{App, Parts},
    catalog::Catalog,
    clock::Clock,
    directory::Directory,
    repositories::Repositories,
    rpc,
    settings::{Settings, split_endpoint},
};

/// After a signal, requests under way have so long: a part of a backup that is being put is below 17 MiB.
const GRACE: Duration = Duration::from_secs(20);

/// A peer that vanished without a word is noticed after both of these.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(4);

/// Larger HTTP/2 frames halve the CPU per byte; 256 KiB is where the gain ends.
const FRAME_BYTES: u32 = 256 * 1024;

/// How often the coordinator looks whether its own certificate is due.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(3600);

/// Serves until `stop` is cancelled, then ends what is under way. `ready` hears the address.
pub async fn serve(
    directory: Directory,
    clock: Clock,
    stop: CancellationToken,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), Fault> {
    let settings = Settings::load(&directory.settings()).map_err(Fault::while_doing("read the settings"))?;
    let _lock = directory.lock()?;
    let authority = CertificateAuthority::load(&directory.authority())
        .map_err(Fault::while_doing("read the authority of this coordinator"))?;
    if let Ok(Some(exposed)) = CertificateAuthority::check_private(&directory.authority()) {
        warn!("{exposed}");
    }
    announce_endpoints(&directory, &settings);
    let (tls, credentials) = own_tls(&authority, &settings, &clock)?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        Fault::new(ErrorKind::Unavailable, format!("listen on {}: {error}", settings.listen))
            .with_hint("`listen` in urtext.toml says where; is another program there?")
    })?;
    let address = listener
        .local_addr()
        .map_err(|error| Fault::new(ErrorKind::Internal, format!("ask for the listening address: {error}")))?;
    let repositories = Repositories::new(&settings.repositories);
    repositories.open().await?;
    let catalog = Catalog::open(&directory.catalog()).await.map_err(Fault::while_doing("open the catalog"))?;
    // Large, and on the heap until it is done.
    let parts = Parts { directory, settings, clock, authority, repositories, catalog };
    let app = Arc::new(Box::pin(App::start(parts)).await?);

    app.background.spawn(Arc::clone(&app).keep_saving());
    app.background.spawn(Arc::clone(&app).keep_reconciling());
    app.background.spawn(Arc::clone(&app).keep_watching());
    for task in app.tasks.hooked() {
        app.hook_when_ended(task);
    }
    app.background.spawn(Arc::clone(&app).keep_schedules());
    app.background.spawn(Arc::clone(&app).keep_authority());
    app.background.spawn(keep_certificate(Arc::clone(&app), tls.clone(), credentials));
    info!(%address, "serving");
    ready(address);

    let server = Server::builder()
        .http2_adaptive_window(Some(true))
        .max_frame_size(Some(FRAME_BYTES))
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_LIMIT))
        .add_routes(rpc::services(&app))
        .serve_with_incoming_shutdown(incoming(listener, tls), stop.clone().cancelled_owned());
    let mut server = Box::pin(server);
    let served = tokio::select! {
        served = &mut server => served,
        () = stop.cancelled() => {
            info!("stopping: no new connections, what is under way is finished");
            // Sessions and watchers end by this; puts go on to their end.
            app.stop.cancel();
            match timeout(GRACE, &mut server).await {
                Ok(served) => served,
                Err(_) => {
                    warn!(grace = ?GRACE, "requests that did not end in time were cut off");
                    Ok(())
                }
            }
        }
    };
    drop(server);
    app.stop.cancel();
    app.background.close();
    if timeout(GRACE, app.background.wait()).await.is_err() {
        warn!(left = app.background.len(), "some work did not end in time and was cut off");
    }
    app.catalog.close().await;
    info!("stopped");
    served.map_err(|error| Fault::new(ErrorKind::Unavailable, format!("serve: {}", Chain(&error))))
}

/// The command line finds the coordinator where the settings say that it is.
fn announce_endpoints(directory: &Directory, settings: &Settings) {
    let operator = directory.operator();
    // It may have been moved to another machine altogether.
    if !operator.root().is_dir() {
        return;
    }
    let text: String = settings.advertise.iter().flat_map(|endpoint| [endpoint, "\n"]).collect();
    if let Err(error) = replace_public(&operator.endpoints(), &text) {
        warn!(error = %Chain(&error), "could not update the address in operator/");
    }
}

fn issue(authority: &CertificateAuthority, settings: &Settings, clock: &Clock) -> Result<Credentials, IdentityError> {
    let names: Vec<String> = settings
        .advertise
        .iter()
        .filter_map(|endpoint| split_endpoint(endpoint).ok())
        .map(|(host, _)| host.to_owned())
        .collect();
    authority.issue_coordinator(&names, clock.now(), COORDINATOR_LIFETIME)
}

/// The coordinator holds the authority: its own certificate is made anew at every start.
fn own_tls(
    authority: &CertificateAuthority,
    settings: &Settings,
    clock: &Clock,
) -> Result<(ServerTls, Credentials), Fault> {
    let credentials =
        issue(authority, settings, clock).map_err(Fault::while_doing("make the coordinator's certificate"))?;
    let tls = ServerTls::new(&credentials).map_err(Fault::while_doing("use the coordinator's certificate"))?;
    Ok((tls, credentials))
}

/// Renews the certificate before it expires, for connections made from then on.
async fn keep_certificate(app: Arc<App>, tls: ServerTls, mut credentials: Credentials) {
    while app.stop.run_until_cancelled(tokio::time::sleep(CERTIFICATE_LOOK)).await.is_some() {
        let is_due = credentials.renew_at().is_ok_and(|due| app.clock.now() >= due);
        if !is_due {
            continue;
        }
        match issue(&app.authority, &app.settings, &app.clock).and_then(|new| tls.reload(&new).map(|()| new)) {
            Ok(new) => credentials = new,
            Err(error) => warn!(error = %Chain(&error), "could not renew the coordinator's certificate; trying again"),
        }
    }
}
