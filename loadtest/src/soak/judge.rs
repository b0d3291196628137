//! The end of a soak: logs are held against what was said, and counts against the server's.

use serde_json::{Value, json};

use super::crowd::Crowd;
use super::events::Topic;
use super::member::{Member, Phase};
use super::tally::Tally;
use super::{Args, Plan};
use crate::admin;

/// Why the server drops what it then tells of; what leaves with its connection it can't.
const TOLD_REASONS: [&str; 3] = ["displaced", "full", "aged"];

impl Crowd<'_> {
    /// Holds each listener's log against what the members of its room have said.
    pub(super) fn judge(&mut self) {
        let size = usize::from(self.plan.members);
        for room in self.members.chunks_mut(size) {
            judge_room(room, &mut self.tally);
        }
    }
}

fn judge_room(members: &mut [Member], tally: &mut Tally) {
    let (mut silent, mut told) = (vec![0; members.len()], vec![0; members.len()]);
    for topic in Topic::ALL {
        for speaker in 0..members.len() {
            let (last, excused) = (members[speaker].said(topic), members[speaker].excused(topic));
            for (at, listener) in members.iter_mut().enumerate() {
                if listener.hears(topic, speaker) {
                    let heard = listener.heard(topic, speaker);
                    let missing = heard.silent(last, &excused);
                    silent[at] += missing;
                    told[at] += heard.told;
                    tally.topics[topic as usize].silent += missing;
                    tally.topics[topic as usize].told += heard.told;
                }
            }
        }
    }
    for (at, listener) in members.iter().enumerate() {
        tally.stranded += u64::from(listener.phase != Phase::Live || !listener.is_quiet());
        tally.drops.unanswered += listener.unanswered();
        match (silent[at], told[at]) {
            (0, 0) => tally.exact += 1,
            (0, _) => tally.told += 1,
            _ => {}
        }
    }
}

/// What the server has counted of messages that it dropped and has to tell of, so far.
pub(super) fn dropped_by(admin: &str) -> Result<u64, String> {
    let is_told = |row: &str| TOLD_REASONS.iter().any(|reason| row.contains(&format!("reason=\"{reason}\"")));
    let wanted = |row: &str| row.contains("class=\"droppable\"") && is_told(row);
    admin::fetch_where(admin, admin::DROPPED, wanted).map(|count| count as u64)
}

/// Why the run is no proof, or proves the opposite; nothing when all is well. `dropped` is what the server has counted.
pub(super) fn faults(plan: &Plan, tally: &Tally, dropped: Option<u64>) -> Vec<String> {
    let drops = &tally.drops;
    let mut faults = Vec::new();
    for (count, what) in [
        (tally.silent(), "missing without a word"),
        (tally.twice, "heard twice"),
        (tally.stranded, "members never came back, or were not through at the end"),
        (drops.unnamed, "came late although nothing had named them as dropped"),
        (drops.unanswered, "news of drops had no answer"),
    ] {
        if count > 0 {
            faults.push(format!("{count} {what}"));
        }
    }
    if plan.words_percent > 0 && drops.news == drops.unnumbered {
        faults.push(
            "nothing was dropped, so nothing is proven: let readers doze longer (--doze-s), say more words in fewer rooms \
             (--words-percent, --busy-rooms), or ask for none (--words-percent 0)"
                .to_owned(),
        );
    }
    // What was to be told on a connection that ended may never have been.
    if let Some(dropped) = dropped
        && (drops.messages > dropped || (drops.messages < dropped && tally.busy_ended == 0))
    {
        faults.push(format!("{} drops were told, and the server has counted {dropped}", drops.messages));
    }
    faults
}

/// For programs.
pub(super) fn report(args: &Args, tally: &Tally, dropped: Option<u64>, faults: &[String]) -> Value {
    let back = &tally.back_us;
    let at = |quantile: f64| back.value_at_quantile(quantile);
    let [messages, words] = tally.topics;
    json!({
        "scenario": "soak",
        "rooms": args.rooms,
        "members": args.members,
        "duration_s": args.duration_s,
        "rate": args.rate,
        "clean": faults.is_empty(),
        "faults": faults,
        "messages": messages,
        "words": words,
        "counts": tally,
        "server_dropped": dropped,
        "back_us": { "count": back.len(), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": back.max() },
    })
}

/// For people.
pub(super) fn lines(tally: &Tally, dropped: Option<u64>, faults: &[String]) -> String {
    let ms = |quantile: f64| tally.back_us.value_at_quantile(quantile) as f64 / 1e3;
    let [not_recovered, recovered] = tally.restorations;
    let [messages, words] = tally.topics;
    let drops = &tally.drops;
    let counted = dropped.map(|dropped| {
        format!(", of {dropped} that the server counts; {} connections to busy rooms ended", tally.busy_ended)
    });
    let mut lines = vec![
        format!("messages: said {}, heard {}; withheld {}", messages.said, messages.heard, tally.withheld),
        format!("words: said {}, heard {}, of which {} late", words.said, words.heard, words.late),
        format!("cuts {:?}\ncloses {:?}\nerrors {:?}", tally.cuts, tally.closes, tally.errors),
        format!(
            "came back {}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; late by {:.1} ms at most",
            tally.back_us.len(),
            ms(0.5),
            ms(0.99),
            ms(1.0),
            tally.late_us_max as f64 / 1e3
        ),
        format!("restorations: recovered {recovered}, not {not_recovered}"),
        format!(
            "sent again {}, told again {}, heard twice {}",
            tally.repeated, tally.told_again, tally.twice
        ),
        format!(
            "news of drops {}: recovered {} ({} messages), lost and said so {} ({} messages), unnumbered {}, unanswered {}",
            drops.news,
            drops.recovered,
            drops.recovered_messages,
            drops.lost,
            drops.lost_messages,
            drops.unnumbered,
            drops.unanswered
        ),
        format!("drops told {}{}", drops.messages, counted.unwrap_or_default()),
        format!(
            "listeners: exact {}, told {} ({} messages and {} words), stranded {}; missing without a word: {}",
            tally.exact,
            tally.told,
            messages.told,
            words.told,
            tally.stranded,
            tally.silent()
        ),
    ];
    lines.extend(faults.iter().map(|fault| format!("FAILED: {fault}")));
    lines.join("\n")
}
