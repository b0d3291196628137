//! Where the model server is: its name is looked up before the node is ready and every so often, and the shards are given
//! what is found.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use shards::core::ModelServer;
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use crate::config::RealtimeConfig;

/// How soon a name is looked up again that was not found; twice as long each time, until it is as long as usual.
const AGAIN_MIN: Duration = Duration::from_secs(1);

/// How long the start waits for the first look: rooms can be had before, but no model sessions.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Looks it up once before anybody is served. That it can't be found, [`keep_known`] says.
pub(crate) async fn look_once(config: Option<&RealtimeConfig>) {
    let Some(RealtimeConfig { server, host, port, .. }) = config else { return };
    if let Ok(Ok(found)) = timeout(FIRST_LOOK, lookup_host((host.as_str(), *port))).await {
        take(server, host, found.collect());
    }
}

/// Looks it up for ever. What can't be found leaves the old addresses in force. Safe to drop.
pub(crate) async fn keep_known(config: Option<&RealtimeConfig>) -> std::io::Result<Infallible> {
    let Some(RealtimeConfig { server, host, port, refresh, exposes_key, .. }) = config else {
        return std::future::pending().await;
    };
    if *exposes_key {
        tracing::warn!(
            host,
            "realtime.url is ws://: the key for the model server crosses the network in clear"
        );
    }
    let mut again = AGAIN_MIN;
    loop {
        match lookup_host((host.as_str(), *port)).await.map(Iterator::collect::<Vec<_>>) {
            Ok(found) if !found.is_empty() => {
                take(server, host, found);
                again = AGAIN_MIN;
                sleep(*refresh).await;
            }
            found => {
                let cause =
                    found.err().map_or_else(|| "it has no address".to_owned(), |cause| cause.to_string());
                let again_in_s = again.min(*refresh).as_secs();
                tracing::warn!(host, cause, again_in_s, "the model server's name can't be looked up");
                sleep(again.min(*refresh)).await;
                again = (again * 2).min(*refresh);
            }
        }
    }
}

fn take(server: &ModelServer, host: &str, mut found: Vec<SocketAddr>) {
    let known = server.addresses();
    let is_same = known.len() == found.len() && found.iter().all(|address| known.contains(address));
    if !is_same {
        found.dedup();
        tracing::info!(host, addresses = ?found, "the model server's addresses");
        server.set_addresses(found);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shards::core::ModelServerSettings;

    use super::*;

    fn config(host: &str) -> RealtimeConfig {
        RealtimeConfig {
            server: Arc::new(ModelServer::new(ModelServerSettings::default())),
            host: host.to_owned(),
            port: 8_443,
            refresh: Duration::from_secs(60),
            sockets: 0,
            exposes_key: false,
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(test);
    }

    #[test]
    fn an_address_is_known_at_once_and_a_name_is_looked_up() {
        run(async {
            for (host, expected) in [("127.0.0.1", "127.0.0.1:8443"), ("::1", "[::1]:8443")] {
                let config = config(host);
                let known = async {
                    while config.server.addresses().is_empty() {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    broken = keep_known(Some(&config)) => panic!("{broken:?}"),
                    () = known => {}
                }
                let expected = [expected.parse().expect("an address")];
                assert_eq!(*config.server.addresses(), expected);
                config.server.set_addresses(Vec::new());
                look_once(Some(&config)).await;
                assert_eq!(*config.server.addresses(), expected);
            }
        });
    }

    #[test]
    fn a_name_that_is_not_found_leaves_what_was_known() {
        run(async {
            let config = config("no.such.host.invalid");
            let old = vec![SocketAddr::from(([192, 0, 2, 1], 8_443))];
            config.server.set_addresses(old.clone());
            let looked_up = lookup_host(("no.such.host.invalid", 1));
            tokio::select! {
                broken = keep_known(Some(&config)) => panic!("{broken:?}"),
                found = looked_up => assert!(found.is_err()),
            }
            assert_eq!(*config.server.addresses(), old);
        });
    }
}
