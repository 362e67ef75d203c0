//! Both ends of replication against real servers of five versions. `tests/install-servers` brings them.
//!
//! What needs an agent around it is tested with the whole product; here is what the protocol alone
//! promises, at a size that takes seconds.

mod restore;
mod server;
mod snapshot;

/// Runs one test on every server version, each under its own name.
macro_rules! on_every_server {
    ($($test:ident),* $(,)?) => {
        on_every_server!(@ redis_6_2, $($test),*);
        on_every_server!(@ redis_7_0, $($test),*);
        on_every_server!(@ redis_8_2, $($test),*);
        on_every_server!(@ valkey_8_1, $($test),*);
        on_every_server!(@ valkey_9_1, $($test),*);
    };
    (@ $version:ident, $($test:ident),*) => {
        mod $version {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(&crate::server::$version()).await;
                }
            )*
        }
    };
}
use on_every_server;
