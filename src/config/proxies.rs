//! What proxies may say: `server.trusted_proxies`, `server.proxy_protocol`, `server.forwarded_by`.

use shards::core::config::Proxies;
use shards::core::http::ForwardedBy;
use shards::core::networks::Networks;

use super::resolve::Resolver;

impl Resolver<'_> {
    pub(super) fn check_proxies(&mut self) {
        if let Some(bad) = self.trusted_proxies().err() {
            let remedy = "write them like [\"10.0.0.0/8\", \"fd00::/8\"]".to_owned();
            self.blame("server.trusted_proxies", format!("lists something else: {bad}"), remedy);
        }
        let nobody = self.list("server.trusted_proxies").is_empty() && !self.listens_on_a_socket_file();
        if self.switch("server.proxy_protocol") && nobody {
            self.blame(
                "server.proxy_protocol",
                "trusts nobody: server.trusted_proxies is empty".to_owned(),
                "list the proxies' networks in server.trusted_proxies".to_owned(),
            );
        }
    }

    fn trusted_proxies(&self) -> Result<Networks, shards::core::networks::BadNetwork> {
        self.list("server.trusted_proxies").join(",").parse()
    }

    pub(super) fn proxies(&self) -> Proxies {
        Proxies {
            trusted: self.trusted_proxies().expect("checked with the rest"),
            protocol: self.switch("server.proxy_protocol"),
            forwarded_by: match self.text("server.forwarded_by") {
                "forwarded" => ForwardedBy::Forwarded,
                "none" => ForwardedBy::Nothing,
                _ => ForwardedBy::XForwardedFor,
            },
        }
    }
}
