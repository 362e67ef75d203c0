//! Real TLS connections over the loopback interface: who gets in, who does not, and what is said about it.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt;
use rustls::{HandshakeKind, ServerConfig, pki_types::ServerName, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use urtext_identity::{
    AUTHORITY_LIFETIME, AgentIdentity, CertificateAuthority, CertificateRequest, ClientTls, ConnectError, Connector,
    Credentials, Joining, PeerCertificate, PeerId, ServerTls, Sha256Digest, TlsFailure, incoming, redis_client_config,
};
use urtext_types::{ErrorKind, Explain, Timestamp};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Nothing here takes a second; whatever takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    Timestamp::from_millis(since_1970.as_millis() as i64)
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::generate(now().minus(100 * DAY), AUTHORITY_LIFETIME).expect("an authority")
}

fn coordinator(authority: &CertificateAuthority) -> Credentials {
    authority.issue_coordinator(&["localhost".to_owned()], now(), DAY).expect("a coordinator's certificate")
}

fn fra_1() -> AgentIdentity {
    "spiffe://urtext/agent/orders/0/fra/fra-1".parse::<PeerId>().expect("a peer").agent().expect("an agent").clone()
}

/// What an agent has after it enrolled at `issued_at` for a day.
fn agent(authority: &CertificateAuthority, issued_at: Timestamp) -> Credentials {
    let request = CertificateRequest::generate().expect("a request");
    let issued = authority.issue_agent(&fra_1(), &request.csr_pem, issued_at, DAY).expect("a certificate");
    Credentials {
        ca_pem: authority.certificate_pem(),
        certificate_pem: issued.certificate_pem,
        key_pem: request.key_pem,
    }
}

/// A server that answers each connection with the name, serial and kind of handshake that it saw. It ends
/// with its `JoinSet`.
struct Server {
    address: String,
    tls: ServerTls,
    _task: JoinSet<()>,
}

async fn serve(credentials: &Credentials) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let tls = ServerTls::new(credentials).expect("a server configuration");
    let mut connections = Box::pin(incoming(listener, tls.clone()));
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Some(Ok(mut connection)) = connections.next().await {
            let (_, session) = connection.get_ref();
            let peer = session.peer_certificates().map(|chain| PeerCertificate::from_der(&chain[0]).expect("a peer"));
            let peer = peer.map_or("nobody -".to_owned(), |peer| format!("{} {}", peer.peer, peer.serial));
            let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
            let answer = format!("{peer} {}", if resumed { "resumed" } else { "full" });
            // The client may be gone; that is its business.
            drop(connection.write_all(answer.as_bytes()).await);
            drop(connection.shutdown().await);
        }
    });
    Server { address, tls, _task: task }
}

/// Connects and reads the server's answer.
async fn ask(server: &Server, tls: ClientTls) -> Result<String, Box<dyn Error>> {
    timeout(PATIENCE, async {
        let mut connection = Connector::new(tls).connect(&server.address).await?;
        assert_eq!(connection.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "gRPC needs HTTP/2");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok(answer)
    })
    .await
    .expect("an answer in time")
}

/// Why the connection was refused, by either side.
async fn refusal(server: &Server, tls: ClientTls) -> TlsFailure {
    let error = ask(server, tls).await.expect_err("the connection should be refused");
    TlsFailure::find(error.as_ref()).unwrap_or_else(|| panic!("no TLS failure in {error:?}"))
}

fn client(credentials: &Credentials) -> ClientTls {
    ClientTls::new(credentials).expect("a client configuration")
}

#[tokio::test]
async fn who_joins_knows_the_coordinator_by_the_fingerprint_and_comes_without_a_name() {
    let authority = authority();
    let server = serve(&coordinator(&authority)).await;
    let joining = Joining::new(authority.fingerprint()).expect("a configuration");
    assert_eq!(joining.ca_pem(), None);
    assert_eq!(ask(&server, joining.tls()).await.expect("an answer"), "nobody - full");
    assert_eq!(joining.ca_pem(), Some(authority.certificate_pem()));
}

#[tokio::test]
async fn a_coordinator_with_another_fingerprint_is_refused() {
    let server = serve(&coordinator(&authority())).await;
    let joining = Joining::new(Sha256Digest::of(b"another authority")).expect("a configuration");
    assert_eq!(refusal(&server, joining.tls()).await, TlsFailure::TheirsOfAnotherFingerprint);
    assert_eq!(joining.ca_pem(), None);
}

#[tokio::test]
async fn showing_the_pinned_authority_without_being_certified_by_it_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let mut imposter = coordinator(&theirs);
    // Certificates are public: anybody can put ours in their chain.
    imposter.certificate_pem.push_str(&ours.certificate_pem());
    let server = serve(&imposter).await;
    let joining = Joining::new(ours.fingerprint()).expect("a configuration");
    assert_eq!(refusal(&server, joining.tls()).await, TlsFailure::TheirsOfAnotherAuthority);
    assert_eq!(joining.ca_pem(), None);
}

#[tokio::test]
async fn an_agent_can_not_pose_as_the_coordinator_to_one_who_joins() {
    let authority = authority();
    let server = serve(&agent(&authority, now())).await;
    let joining = Joining::new(authority.fingerprint()).expect("a configuration");
    assert_eq!(refusal(&server, joining.tls()).await, TlsFailure::TheirsForAnotherUse);
}

#[tokio::test]
async fn an_agent_is_known_by_the_name_and_serial_in_its_certificate() {
    let authority = authority();
    let server = serve(&coordinator(&authority)).await;
    let credentials = agent(&authority, now());
    let serial = credentials.certificate().expect("a certificate").serial;
    let expected = format!("spiffe://urtext/agent/orders/0/fra/fra-1 {serial} full");
    let tls = client(&credentials);
    assert_eq!(ask(&server, tls.clone()).await.expect("an answer"), expected);
    // The certificate is looked at anew each time.
    assert_eq!(ask(&server, tls).await.expect("an answer"), expected);
}

#[tokio::test]
async fn operators_and_viewers_are_known_by_name() {
    let authority = authority();
    let server = serve(&coordinator(&authority)).await;
    let ada = "ada".parse().expect("a name");
    let operator = authority.issue_operator(&ada, now(), DAY).expect("a certificate");
    let viewer = authority.issue_viewer(&ada, now(), DAY).expect("a certificate");
    let answer = ask(&server, client(&operator)).await.expect("an answer");
    assert!(answer.starts_with("spiffe://urtext/operator/ada "), "{answer}");
    let answer = ask(&server, client(&viewer)).await.expect("an answer");
    assert!(answer.starts_with("spiffe://urtext/viewer/ada "), "{answer}");
}

#[tokio::test]
async fn certificates_of_another_authority_are_refused_in_both_directions() {
    let (ours, theirs) = (authority(), authority());
    let server = serve(&coordinator(&ours)).await;
    let stranger = agent(&theirs, now());
    assert_eq!(refusal(&server, client(&stranger)).await, TlsFailure::TheirsOfAnotherAuthority);
    // One that trusts our coordinator, but has its certificate from elsewhere.
    let stranger = Credentials { ca_pem: ours.certificate_pem(), ..stranger };
    assert_eq!(refusal(&server, client(&stranger)).await, TlsFailure::OursRefused);
}

#[tokio::test]
async fn expired_certificates_are_refused_in_both_directions() {
    let authority = authority();
    let server = serve(&coordinator(&authority)).await;
    let expired = agent(&authority, now().minus(3 * DAY));
    assert_eq!(refusal(&server, client(&expired)).await, TlsFailure::OursExpired);

    let expired = authority.issue_coordinator(&[], now().minus(3 * DAY), DAY).expect("a certificate");
    let server = serve(&expired).await;
    let failure = refusal(&server, client(&agent(&authority, now()))).await;
    assert_eq!(failure, TlsFailure::TheirsExpired);
    assert_eq!(failure.kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_clock_that_is_almost_an_hour_behind_is_no_hindrance() {
    let authority = authority();
    let minutes = |n: u64| Duration::from_secs(n * 60);
    // Seen from that host, the certificate was issued 55 minutes in the future.
    let ahead = authority.issue_coordinator(&[], now().plus(minutes(55)), DAY).expect("a certificate");
    let server = serve(&ahead).await;
    let joining = Joining::new(authority.fingerprint()).expect("a configuration");
    ask(&server, joining.tls()).await.expect("an answer");

    let too_far_ahead = authority.issue_coordinator(&[], now().plus(minutes(65)), DAY).expect("a certificate");
    server.tls.reload(&too_far_ahead).expect("usable credentials");
    assert_eq!(refusal(&server, joining.tls()).await, TlsFailure::TheirsNotYetValid);
}

#[tokio::test]
async fn an_agent_can_not_serve_as_the_coordinator() {
    let authority = authority();
    let server = serve(&agent(&authority, now())).await;
    assert_eq!(refusal(&server, client(&agent(&authority, now()))).await, TlsFailure::TheirsForAnotherUse);
}

#[tokio::test]
async fn new_credentials_count_from_the_next_connection_on() {
    let authority = authority();
    let server = serve(&coordinator(&authority)).await;
    let tls = client(&agent(&authority, now()));
    ask(&server, tls.clone()).await.expect("an answer");

    let renewed = agent(&authority, now());
    tls.reload(&renewed).expect("usable credentials");
    let answer = ask(&server, tls.clone()).await.expect("an answer");
    assert!(answer.contains(renewed.certificate().expect("a certificate").serial.as_str()), "{answer}");

    let elsewhere = coordinator(&self::authority());
    server.tls.reload(&elsewhere).expect("usable credentials");
    assert_eq!(refusal(&server, tls).await, TlsFailure::TheirsOfAnotherAuthority);
}

#[tokio::test]
async fn unusable_credentials_leave_all_as_it_was() {
    let authority = authority();
    let server = serve(&coordinator(&authority)).await;
    let tls = client(&agent(&authority, now()));
    let mixed = Credentials { key_pem: agent(&authority, now()).key_pem, ..agent(&authority, now()) };
    for error in
        [tls.reload(&mixed).expect_err("a key mismatch"), server.tls.reload(&mixed).expect_err("a key mismatch")]
    {
        assert_eq!(error.to_string(), "the private key does not belong to the certificate");
    }
    ask(&server, tls).await.expect("an answer");
}

#[tokio::test]
async fn silent_clients_hold_up_nobody() {
    let authority = authority();
    let server = serve(&coordinator(&authority)).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(&server.address).await.expect("a connection"));
    }
    // Well below the limit of a handshake.
    let answer = timeout(Duration::from_secs(5), ask(&server, client(&agent(&authority, now()))));
    answer.await.expect("an answer in time").expect("an answer");
}

#[tokio::test]
async fn handshakes_end_with_the_stream_of_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let tls = ServerTls::new(&coordinator(&authority())).expect("a server configuration");
    let mut connections = Box::pin(incoming(listener, tls));
    let mut silent = TcpStream::connect(address).await.expect("a connection");
    // Long enough to accept it, and then there is nothing to yield.
    assert!(timeout(Duration::from_millis(300), connections.next()).await.is_err());
    drop(connections);
    let read = timeout(Duration::from_secs(5), silent.read(&mut [0; 1])).await.expect("the connection to end");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

/// A gRPC channel over a [`Connector`], as the agent and the command line make it.
async fn channel(address: &str, tls: ClientTls) -> Result<tonic::transport::Channel, tonic::transport::Error> {
    let connector = Connector::new(tls);
    let dial = tower::service_fn(move |uri: tonic::transport::Uri| {
        let connector = connector.clone();
        async move {
            let address = uri.authority().map_or("", |authority| authority.as_str());
            connector.connect(address).await.map(hyper_util::rt::TokioIo::new)
        }
    });
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("an endpoint");
    timeout(PATIENCE, endpoint.connect_with_connector(dial)).await.expect("an answer in time")
}

#[tokio::test]
async fn a_grpc_server_accepts_the_connections_and_a_refused_channel_says_why() {
    let authority = authority();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let tls = ServerTls::new(&coordinator(&authority)).expect("a server configuration");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut server = JoinSet::new();
    let router = tonic::transport::Server::builder().add_routes(tonic::service::Routes::default());
    server.spawn(router.serve_with_incoming_shutdown(incoming(listener, tls), async { drop(stopped.await) }));

    let accepted = channel(&address, client(&agent(&authority, now()))).await.expect("a channel");
    drop(accepted);
    let expired = client(&agent(&authority, now().minus(3 * DAY)));
    let error = channel(&address, expired).await.expect_err("a refusal");
    assert_eq!(TlsFailure::find(&error), Some(TlsFailure::OursExpired), "{error:?}");

    stop.send(()).expect("the server runs");
    let ended = timeout(PATIENCE, server.join_next()).await.expect("the server to stop in time");
    ended.expect("a server").expect("no panic").expect("no error");
}

#[tokio::test]
async fn what_is_not_tls_and_what_is_not_there_are_told_apart() {
    let tls = client(&agent(&authority(), now()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let mut plain = JoinSet::new();
    plain.spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        tcp.write_all(b"-ERR unknown command\r\n").await.expect("to answer");
        drop(tcp.read(&mut [0; 1024]).await);
    });
    let connector = Connector::new(tls);
    let error = connector.connect(&address).await.expect_err("a refusal");
    assert!(matches!(&error, ConnectError::Tls { source: TlsFailure::NotTls, .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("connect to the coordinator at {address}"));

    plain.shutdown().await;
    let error = connector.connect(&address).await.expect_err("nobody is there");
    assert!(matches!(&error, ConnectError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// A server as Redis is one with `tls-auth-clients yes`: its certificate is made out to a host name, and
/// it wants one of the client.
async fn redis_like(authority: &CertificateAuthority) -> (String, JoinSet<()>) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let credentials = coordinator(authority);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(credentials.ca_pem.as_bytes()).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .with_client_cert_verifier(clients.build().expect("a verifier"))
        .with_single_cert(
            CertificateDer::pem_slice_iter(credentials.certificate_pem.as_bytes()).map(|c| c.expect("PEM")).collect(),
            PrivateKeyDer::from_pem_slice(credentials.key_pem.expose().as_bytes()).expect("PEM"),
        )
        .expect("a server configuration");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.expect("a connection");
            if let Ok(mut connection) = acceptor.accept(tcp).await {
                drop(connection.write_all(b"+PONG\r\n").await);
                drop(connection.shutdown().await);
            }
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_redis_server_must_have_the_dialled_name_from_the_given_authority() {
    let ours = authority();
    let (address, _task) = redis_like(&ours).await;
    let agent = agent(&ours, now());
    let certificate = Some((agent.certificate_pem.as_str(), &agent.key_pem));
    let ping = |ca_pem: String, client, name: &'static str| {
        let connector = TlsConnector::from(redis_client_config(&ca_pem, client).expect("a configuration"));
        let address = address.clone();
        async move {
            let tcp = TcpStream::connect(&address).await.expect("a connection");
            let name = ServerName::try_from(name).expect("a name");
            let mut answer = String::new();
            let read = async { connector.connect(name, tcp).await?.read_to_string(&mut answer).await };
            match timeout(PATIENCE, read).await.expect("an answer in time") {
                Ok(_) => Ok(answer),
                Err(error) => Err(TlsFailure::find(&error).unwrap_or_else(|| panic!("no TLS failure in {error:?}"))),
            }
        }
    };
    let ca_pem = || ours.certificate_pem();
    assert_eq!(ping(ca_pem(), certificate, "localhost").await, Ok("+PONG\r\n".to_owned()));
    assert_eq!(ping(ca_pem(), certificate, "redis.example").await, Err(TlsFailure::TheirsForAnotherName));
    let other = authority().certificate_pem();
    assert_eq!(ping(other, certificate, "localhost").await, Err(TlsFailure::TheirsOfAnotherAuthority));
    // TLS 1.2 has no better word for it.
    let without = ping(ca_pem(), None, "localhost").await.expect_err("a refusal");
    assert!(matches!(without, TlsFailure::OursMissing | TlsFailure::Other { .. }), "{without:?}");
}
