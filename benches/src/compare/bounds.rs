//! Bounds on figures: `metric:server/server<=number` for a ratio, `metric:server>=number` for a figure
//! itself.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::Serialize;

use super::args::Server;
use super::figures::{Measured, Metric};

/// A bound that a comparison has to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    metric: Metric,
    server: Server,
    to: Option<Server>,
    at_most: bool,
    limit: f64,
}

/// What became of a bound.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) bound: String,
    /// What was measured; `None` if nothing was, which breaks the bound.
    pub(super) measured: Option<f64>,
    pub(super) holds: bool,
}

impl Bound {
    pub(super) fn servers(&self) -> impl Iterator<Item = Server> {
        [Some(self.server), self.to].into_iter().flatten()
    }

    pub(super) fn judge(&self, figures: &Measured) -> Verdict {
        let spread = match self.to {
            Some(to) => figures.ratio(self.metric, self.server, to),
            None => figures.figure(self.metric, self.server),
        };
        let measured = spread.map(|spread| spread.median);
        let holds = measured.is_some_and(|m| if self.at_most { m <= self.limit } else { m >= self.limit });
        Verdict { bound: self.to_string(), measured, holds }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.metric, self.server)?;
        if let Some(to) = self.to {
            write!(f, "/{to}")?;
        }
        write!(f, "{}{}", if self.at_most { "<=" } else { ">=" }, self.limit)
    }
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = "a bound reads metric:server/server<=number or metric:server>=number";
        let (metric, rest) = text.split_once(':').ok_or(shape)?;
        let (servers, at_most, limit) = match (rest.split_once("<="), rest.split_once(">=")) {
            (Some((servers, limit)), None) => (servers, true, limit),
            (None, Some((servers, limit))) => (servers, false, limit),
            _ => return Err(shape.to_owned()),
        };
        let (server, to) = match servers.split_once('/') {
            Some((server, to)) => (server, Some(Server::from_str(to.trim(), false)?)),
            None => (servers, None),
        };
        Ok(Self {
            metric: metric.trim().parse()?,
            server: Server::from_str(server.trim(), false)?,
            to,
            at_most,
            limit: limit.trim().parse().map_err(|_| format!("{limit:?} is not a number; {shape}"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::run;
    use super::*;

    #[test]
    fn a_bound_reads_back_as_it_was_written() {
        for text in
            ["cpu:voxhall/epoll<=1.15", "rate:voxhall/tungstenite-tuned>=0.95", "handshakes:voxhall>=20000"]
        {
            assert_eq!(text.parse::<Bound>().expect(text).to_string(), text);
        }
        for text in [
            "",
            "cpu",
            "cpu:voxhall",
            "cpu:voxhall/epoll=1",
            "cpu:nobody<=1",
            "speed:voxhall<=1",
            "cpu:voxhall<=x",
        ] {
            assert!(text.parse::<Bound>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bound_holds_at_its_limit_and_breaks_beyond_it_or_without_a_figure() {
        let mut measured = Measured::default();
        measured.add(1, Server::Voxhall, run(3.0, 10.0));
        measured.add(1, Server::Epoll, run(2.0, 40.0));
        let holds = |text: &str| text.parse::<Bound>().expect(text).judge(&measured).holds;
        assert!(holds("cpu:voxhall/epoll<=1.5"));
        assert!(!holds("cpu:voxhall/epoll<=1.49"));
        assert!(holds("p99:voxhall/epoll>=0.25"));
        assert!(holds("p99:voxhall<=10"));
        assert!(!holds("cpu:voxhall/fastwebsockets<=100"));
        assert!(!holds("handshakes:voxhall>=0"));
    }
}
