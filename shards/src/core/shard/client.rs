//! Where a connection comes from, when proxies stand between: what they say, and whether it is believed.

use ::core::net::{IpAddr, SocketAddr};

use super::super::conn::{Address, Conn, Phase};
use super::super::counters::Refusal;
use super::super::effect::{Caller, ReceiveMode};
use super::super::http::{self, BadProxyHeader, Request};
use super::super::ids::ConnKey;
use super::super::time::Micros;
use super::heads::problem;
use super::{Effects, Shard};

impl Shard {
    /// The most bytes of the PROXY header that has to come first from this peer; nothing when none has to. In front of
    /// TLS it comes in clear, so that the wire has to know.
    pub fn proxy_header_max(&self, peer: Caller) -> Option<usize> {
        let comes = self.config.proxies.protocol && self.trusts(peer);
        comes.then_some(self.config.limits.head_bytes_max)
    }

    /// Whether a peer is believed when it speaks for somebody else.
    pub(super) fn trusts(&self, peer: Caller) -> bool {
        match peer {
            Caller::At(address) => self.config.proxies.trusted.contains(address.ip()),
            Caller::Local => true,
        }
    }

    /// How far it is known where a connection comes from that was accepted here.
    pub(super) fn address_of(&self, peer: Caller) -> Address {
        if self.proxy_header_max(peer).is_some() { Address::InProxyHeader } else { Address::InHead }
    }

    /// Takes a PROXY header off the start of a head, where there has to be one, and says how many bytes it took.
    /// Nothing when more must arrive first, or the connection was refused.
    pub(super) fn take_proxy_header(
        &mut self,
        now: Micros,
        key: ConnKey,
        bytes: &[u8],
        fx: &mut Effects,
    ) -> Option<usize> {
        let head_bytes_max = self.config.limits.head_bytes_max;
        let Some(Conn { phase: Phase::Head(head), peer, .. }) = self.conn(key) else { return None };
        if head.address != Address::InProxyHeader {
            return Some(0);
        }
        match http::proxy_header(bytes) {
            // A longer one could only come at once, and is refused when it comes in pieces.
            Ok(Some(header)) if header.len <= head_bytes_max => {
                head.address = Address::InHead;
                if let Some(client) = header.client {
                    head.via = Some(SocketAddr::from(*peer).ip());
                    (*peer, head.local) = (client.into(), false);
                }
                Some(header.len)
            }
            Ok(None) if bytes.len() < head_bytes_max => {
                head.bytes = bytes.to_vec();
                self.receive(key, ReceiveMode::Once, fx);
                None
            }
            Ok(_) | Err(BadProxyHeader) => {
                let answer = problem(400, &BadProxyHeader.to_string(), None);
                self.refuse(now, key, Refusal::BadRequest, &answer, fx);
                None
            }
        }
    }

    /// Settles from which address a request comes, and gives it; nothing when another shard has done so.
    pub(super) fn settle_address(&mut self, key: ConnKey, request: &Request<'_>) -> Option<IpAddr> {
        let conn = self.conns.find_mut(key);
        let Some(Conn { phase: Phase::Head(head), peer, .. }) = conn else { return None };
        if std::mem::replace(&mut head.address, Address::Settled) == Address::Settled {
            return None;
        }
        let proxies = &self.config.proxies;
        let address = SocketAddr::from(*peer).ip();
        if (head.local || proxies.trusted.contains(address))
            && let Some(client) = request.forwarded_for(proxies.forwarded_by, &proxies.trusted)
        {
            // Its port is not told.
            head.via.get_or_insert(address);
            *peer = SocketAddr::new(client, 0).into();
            return Some(client);
        }
        Some(address)
    }
}
