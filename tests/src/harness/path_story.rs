//! What becomes of paths while a run goes on: closed and made anew by the control path, asked for by the card when an
//! answer is overdue, quiesced.
//!
//! A path's entry is written twice to make its queues anew: as closed, then as open. In between it may be written as
//! closed for now, where it said before that it was being made anew. Between two writes is a *turn* of it.
//! What was issued in a turn that is over comes back by its own answer, or is ended by *path quiesced*; of no other may
//! that be said. In a turn a fence is asked for once, and only if something of it was overdue.
//!
//! An answer in a queue in host memory counts as soon as the card has read it: one that came just before the path had
//! another queue, or was said to be quiet, may be quiesced all the same.
//!
//! When the card noticed that a path has become suspect is not seen: it may have from the moment on at which something
//! that is overdue was issued, and has when its record was taken.

use std::collections::{BTreeMap, HashMap};

use volplane::software::{PlanTemplate, Tables};
use volplane_abi::plan::{path_policy, COMPONENTS_MAX, TIME_OUT_SHIFT};

/// Cycles after which a change of paths is seen where paths are chosen.
const SEEN: u64 = 512;
/// Cycles that parts wait for a path after none is made anew any more; a few less or more.
const GRACE: (u64, u64) = (900, 1_100);
/// Ticks between two looks of the card at what is overdue.
pub const UNIT: u64 = 1 << TIME_OUT_SHIFT;
/// Units after its time-out in which a fragment must have been noticed: rounding, a look, and its record.
pub const NOTICED_UNITS: u64 = 5;
/// Simulated ns in which the record of a fence is taken.
const TAKEN_NS: u64 = 500_000;
/// Units after which the control path makes a path anew where nobody waits with a time-out.
pub const UNTIMED_UNITS: u64 = 24;

/// A span of cycles whose ends are known to lie between two cycles each.
#[derive(Clone, Copy, Debug)]
struct Span {
    begins: (u64, u64),
    ends: (u64, u64),
}

impl Span {
    /// Whether some of it may lie between two cycles,
    fn may_be(&self, first: u64, last: u64) -> bool {
        self.begins.0 <= last && self.ends.1 >= first
    }

    /// and whether it certainly covers all between them.
    fn covers(&self, first: u64, last: u64) -> bool {
        self.begins.1 <= first && self.ends.0 >= last
    }
}

/// A fragment that was issued on a path and has not come back.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    cycle: u64,
    at_ns: u64,
    turn: usize,
    /// Ticks; 0: none.
    time_out: u64,
}

/// A turn of a path: from one writing of its entry as open to its closing.
#[derive(Clone, Debug, Default)]
struct Turn {
    /// A fence was asked for.
    fenced: bool,
    /// One was that may have been of the turn before, which was over when it was told.
    perhaps_fenced: bool,
    /// The first cycle in which something was issued that became overdue.
    late_since: Option<u64>,
    issued: u64,
    /// When it was over, at the latest, in simulated ns.
    over_ns: Option<u64>,
    /// When the next one began, at the latest.
    replaced_ns: Option<u64>,
}

/// A path.
#[derive(Clone, Debug)]
struct Line {
    turns: Vec<Turn>,
    closed: bool,
    /// When it was closed: the last may go on.
    closings: Vec<Span>,
    /// When it was said to be made anew; `false`: only while it was opened.
    renewals: Vec<(Span, bool)>,
    /// When it was suspect.
    suspicions: Vec<Span>,
    outstanding: HashMap<u16, Outstanding>,
    /// The control path says that it is quiet.
    quiescing: bool,
    /// Answers of turns that were over: the card may not make sense of their heads.
    stale: u64,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            turns: vec![Turn::default()],
            closed: false,
            closings: Vec::new(),
            renewals: Vec::new(),
            suspicions: Vec::new(),
            outstanding: HashMap::new(),
            quiescing: false,
            stale: 0,
        }
    }
}

/// What the paths of a machine were, and when.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    lines: BTreeMap<u8, Line>,
    /// By template: ticks that each component waits.
    time_outs: HashMap<u16, [u32; COMPONENTS_MAX]>,
    /// Simulated ns of a tick.
    pub tick_ns: u64,
    /// Those whose completion queues are in host memory, and the entries of these.
    pub in_host: BTreeMap<u8, u16>,
    /// Fragments that may have been quiesced with their answers unread.
    pub unread: u64,
    /// Fragments issued in all.
    pub issued: u64,
    /// Fragments that have come back, in all.
    pub returned: u64,
    /// What was met, for the coverage.
    pub met: Vec<&'static str>,
}

/// Time in which an answer in host memory is read where few wait, in simulated ns. Some 50 us were seen.
const UNREAD_NS: u64 = 200_000;
/// Entries that a read of a queue in host memory gives, and how long one takes at the most, in simulated ns. There is one at
/// a time; with 100 cycles of latency and half of the cycles stalled 520 ns were seen.
const READ_ENTRIES: u64 = 4;
const READ_NS: u64 = 1_000;

impl Paths {
    /// Longest time in which an answer may stand in a path's queue in host memory before it is read: behind a full queue,
    /// each read of which waits for one of each other path.
    fn unread_ns(&self, path: u8) -> Option<u64> {
        let reads = u64::from(*self.in_host.get(&path)?).div_ceil(READ_ENTRIES) + 1;
        Some(UNREAD_NS.max(reads * self.in_host.len() as u64 * READ_NS))
    }

    /// Learns how long the components of a template wait.
    pub fn learn(&mut self, plan: u16, template: &PlanTemplate) {
        self.time_outs.insert(plan, template.components.map(|component| component.time_out));
    }

    fn line(&mut self, path: u8) -> &mut Line {
        self.lines.entry(path).or_default()
    }

    /// A fragment was issued; `of`: the template and the component, if it is a plan's.
    pub fn issued(&mut self, (path, id): (u8, u16), of: Option<(u16, usize)>, (cycle, at_ns): (u64, u64)) {
        let time_out =
            of.and_then(|(plan, component)| Some(u64::from(self.time_outs.get(&plan)?[component])));
        self.issued += 1;
        let line = self.line(path);
        let turn = line.turns.len() - 1;
        line.turns[turn].issued += 1;
        let time_out = time_out.unwrap_or(0);
        line.outstanding.insert(id, Outstanding { cycle, at_ns, turn, time_out });
    }

    /// It has come back; `own`: not by an answer. Then it says since when answers of its completion queue may not have been
    /// read, if that is in host memory.
    ///
    /// # Errors
    /// When nobody has said that its path is quiet.
    pub fn returned(&mut self, (path, id): (u8, u16), own: bool, at_ns: u64) -> Result<Option<u64>, String> {
        let tick_ns = self.tick_ns;
        let unread_ns = self.unread_ns(path).filter(|_| own);
        self.unread += u64::from(unread_ns.is_some());
        self.returned += 1;
        let line = self.line(path);
        let back = line.outstanding.remove(&id).ok_or("it was not outstanding")?;
        let is_over = line.closed || back.turn + 1 < line.turns.len();
        let is_late = line.note_late(&back, at_ns, tick_ns);
        line.stale += u64::from(is_over && !own);
        if own && !(line.quiescing && is_over) {
            return Err(format!("path {path} was not quiesced: {back:?}, {line:?}"));
        }
        let met = [
            (is_late && !own, "an answer that came late"),
            (is_over && !own, "an answer on a path that was closed"),
            (own, "a fragment quiesced"),
        ];
        let replaced_ns = line.turns[back.turn].replaced_ns.unwrap_or(at_ns);
        self.met.extend(met.iter().filter(|(is_met, _)| *is_met).map(|(_, what)| *what));
        Ok(unread_ns.map(|unread_ns| replaced_ns.min(at_ns).saturating_sub(unread_ns)))
    }

    /// Notes what is overdue by now.
    pub fn look(&mut self, now_ns: u64) {
        for line in self.lines.values_mut() {
            let all: Vec<Outstanding> =
                line.outstanding.values().filter(|waiting| waiting.time_out > 0).copied().collect();
            all.iter().for_each(|waiting| {
                line.note_late(waiting, now_ns, self.tick_ns);
            });
        }
    }

    /// The card has asked for a fence.
    ///
    /// # Errors
    /// When it has before, or there was no reason to.
    pub fn fence(&mut self, path: u8, (cycle, at_ns): (u64, u64)) -> Result<(), String> {
        self.look(at_ns);
        let line = self.line(path);
        let count = line.turns.len();
        let is_recent = |turn: &Turn| turn.over_ns.is_none_or(|over_ns| at_ns < over_ns + TAKEN_NS);
        let asks = |turn: &Turn| !turn.fenced && turn.late_since.is_some() && is_recent(turn);
        let found = line.turns.iter().position(asks);
        let Some(number) = found else {
            return Err(format!("a fence of path {path} without a reason, or a second one: {line:?}"));
        };
        line.turns[number].fenced = true;
        let is_closed = line.closed;
        let last = line.turns.last_mut().expect("there is always one");
        // Where one before may be meant, the record does not say which of them it is of.
        let (is_last, may_be_last) = (number + 1 == count, number + 1 < count && asks(last));
        if let Some(since) = last.late_since.filter(|_| !is_closed && (is_last || may_be_last)) {
            last.perhaps_fenced = may_be_last;
            let latest = if is_last { cycle } else { u64::MAX };
            line.suspicions.push(Span { begins: (since, latest), ends: (u64::MAX, u64::MAX) });
        }
        Ok(())
    }

    /// Its entry was written between two cycles, as closed or as open; `renewing`: as being made anew.
    pub fn written(
        &mut self,
        path: u8,
        (closed, renewing): (bool, bool),
        (since, latest): (u64, u64),
        now_ns: u64,
    ) {
        self.look(now_ns);
        let line = self.line(path);
        if let Some(span) = line.suspicions.last_mut().filter(|span| span.ends.0 == u64::MAX) {
            span.ends = (since, latest + SEEN);
        }
        line.end_renewal((since, latest));
        if renewing {
            line.renewals.push((Span { begins: (since, latest), ends: (u64::MAX, u64::MAX) }, true));
        }
        if line.closed && closed {
            return;
        }
        if closed {
            line.turns.last_mut().expect("there is always one").over_ns = Some(now_ns);
            // It may have become suspect, and nobody was told.
            let late = line.turns.last().and_then(|turn| turn.late_since.filter(|_| !turn.fenced));
            if let Some(late) = late {
                line.suspicions.push(Span { begins: (late, u64::MAX), ends: (0, latest + SEEN) });
            }
            line.closings.push(Span { begins: (since, latest), ends: (u64::MAX, u64::MAX) });
        } else {
            line.closings.last_mut().expect("it was closed").ends = (since, latest);
            line.renewals.push((Span { begins: (since, latest), ends: (since, latest) }, false));
            line.turns.last_mut().expect("there is always one").replaced_ns = Some(now_ns);
            line.turns.push(Turn::default());
        }
        line.closed = closed;
    }

    /// The control path says, or has said, that it is quiet.
    pub fn quiesce(&mut self, path: u8, begins: bool) {
        self.line(path).quiescing = begins;
    }

    /// Whether it is closed.
    pub fn is_closed(&self, path: u8) -> bool {
        self.lines.get(&path).is_some_and(|line| line.closed)
    }

    /// Fragments of turns that are over, which have not come back.
    pub fn left_over(&self, path: u8) -> usize {
        let Some(line) = self.lines.get(&path) else { return 0 };
        let over = |waiting: &&Outstanding| line.closed || waiting.turn + 1 < line.turns.len();
        line.outstanding.values().filter(over).count()
    }

    /// Paths on which something is outstanding for long without a time-out, so that nobody asks for a fence.
    ///
    /// # Errors
    /// Says of which a fence should have been asked for.
    pub fn stuck(&self, now_ns: u64) -> Result<Vec<u8>, String> {
        let mut stuck = Vec::new();
        for (&path, line) in self.lines.iter().filter(|(_, line)| !line.closed) {
            let turn = line.turns.len() - 1;
            let of_turn = line.outstanding.values().filter(|waiting| waiting.turn == turn);
            for waiting in of_turn {
                let ticks = (now_ns - waiting.at_ns) / self.tick_ns;
                let of_turn = &line.turns[turn];
                let is_noticed = of_turn.fenced || of_turn.perhaps_fenced || waiting.time_out == 0;
                if !is_noticed && ticks > waiting.time_out + NOTICED_UNITS * UNIT {
                    return Err(format!(
                        "no fence of path {path} was asked for: {waiting:?} after {ticks} ticks"
                    ));
                }
                if waiting.time_out == 0 && ticks > UNTIMED_UNITS * UNIT && !stuck.contains(&path) {
                    stuck.push(path);
                }
            }
        }
        Ok(stuck)
    }

    /// Fragments issued since the path was opened, and whether it ever was closed.
    pub fn issued_on(&self, path: u8) -> (u64, bool) {
        let line = self.lines.get(&path);
        line.map_or((0, false), |line| {
            (line.turns.last().map_or(0, |turn| turn.issued), line.turns.len() > 1)
        })
    }

    /// Answers of turns that were over.
    pub fn stale(&self) -> u64 {
        self.lines.values().map(|line| line.stale).sum()
    }

    /// Whether a fragment may have been given back for want of its path, between two cycles.
    pub fn may_bounce(&self, path: u8, first: u64, last: u64) -> bool {
        self.lines.get(&path).is_some_and(|line| line.closings.iter().any(|span| span.may_be(first, last)))
    }

    /// Whether a part that found no path at `cycle` may wait for one, and whether it must.
    pub fn waits(&self, cycle: u64, latest: u64) -> (bool, bool) {
        let renewals = || self.lines.values().flat_map(|line| &line.renewals);
        let may = renewals().any(|(span, _)| {
            let ends = (span.ends.0, span.ends.1.saturating_add(GRACE.1));
            Span { ends, ..*span }.may_be(cycle, latest)
        });
        let must = renewals().filter(|(_, is_certain)| *is_certain).any(|(span, _)| {
            let ends = (span.ends.0.saturating_add(GRACE.0), span.ends.1);
            Span { begins: (span.begins.0, span.begins.1 + SEEN), ends }.covers(cycle, latest)
        });
        (may, must)
    }

    /// Whether a fragment for a device may take `path`, or finds none, while some are avoided, if that was decided
    /// between two cycles.
    pub fn allow(
        &self,
        tables: &Tables,
        device: u16,
        avoided: u32,
        (first, last): (u64, u64),
        path: Option<u8>,
    ) -> bool {
        let mut left = tables.usable_paths(device);
        left.retain(|path| avoided >> path & 1 == 0);
        let in_turns =
            tables.device(device).is_some_and(|device| device.path_policy() == path_policy::ROUND_ROBIN);
        let first = first.saturating_sub(SEEN);
        let is = |path: u8| self.at(path, first, last);
        let Some(path) = path else {
            return left.iter().all(|&other| is(other).may_be_closed);
        };
        let Some(place) = left.iter().position(|&other| other == path) else { return false };
        let before = if in_turns { &[][..] } else { &left[..place] };
        let unsound = |other: &u8| is(*other).may_be_closed || is(*other).may_be_suspect;
        let chosen = is(path).may_be_sound && before.iter().all(unsound);
        let closed = |other: &u8| is(*other).may_be_closed;
        let forced = is(path).may_be_suspect
            && before.iter().all(closed)
            && left.iter().filter(|&&other| other != path).all(unsound);
        chosen || forced
    }

    fn at(&self, path: u8, first: u64, last: u64) -> Seen {
        let Some(line) = self.lines.get(&path) else { return Seen::SOUND };
        let now = line.turns.last().and_then(|turn| turn.late_since).filter(|_| !line.closed);
        let (closings, suspicions) = (line.closings.iter(), line.suspicions.iter());
        let may_be_closed = closings.clone().any(|span| span.may_be(first, last));
        let may_be_suspect =
            suspicions.clone().any(|span| span.may_be(first, last)) || now.is_some_and(|since| since <= last);
        let never_sound = closings.chain(suspicions).any(|span| span.covers(first, last));
        Seen { may_be_closed, may_be_suspect, may_be_sound: !never_sound }
    }
}

/// What a path may have been.
#[derive(Clone, Copy, Debug)]
struct Seen {
    may_be_closed: bool,
    may_be_suspect: bool,
    may_be_sound: bool,
}

impl Seen {
    const SOUND: Self = Self { may_be_closed: false, may_be_suspect: false, may_be_sound: true };
}

impl Line {
    /// It is not said to be made anew any more, by a writing between two cycles.
    fn end_renewal(&mut self, when: (u64, u64)) {
        if let Some((span, _)) = self.renewals.last_mut().filter(|(span, _)| span.ends.0 == u64::MAX) {
            span.ends = when;
        }
    }

    /// Whether a fragment is overdue, or was when it came back, in its turn; notes it.
    fn note_late(&mut self, waiting: &Outstanding, at_ns: u64, tick_ns: u64) -> bool {
        let turn = &mut self.turns[waiting.turn];
        let by_ns = turn.over_ns.map_or(at_ns, |over_ns| over_ns.min(at_ns));
        let is_late = waiting.time_out > 0 && by_ns >= waiting.at_ns + waiting.time_out * tick_ns;
        if is_late {
            let since = &mut turn.late_since;
            *since = Some(since.map_or(waiting.cycle, |since| since.min(waiting.cycle)));
        }
        is_late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_waited_for_while_it_is_said_to_be_made_anew() {
        let mut paths = Paths::default();
        let waits = |paths: &Paths, cycle: u64| paths.waits(cycle, cycle + 32);
        paths.written(3, (true, true), (10_000, 10_010), 0);
        assert_eq!(waits(&paths, 5_000), (false, false));
        assert_eq!(waits(&paths, 20_000), (true, true));
        paths.written(3, (true, false), (50_000, 50_010), 0);
        assert_eq!((waits(&paths, 51_000), waits(&paths, 60_000)), ((true, false), (false, false)));
        assert!(paths.is_closed(3) && paths.may_bounce(3, 60_000, 60_032));
        paths.written(3, (false, false), (70_000, 70_010), 0);
        assert_eq!((waits(&paths, 70_500), waits(&paths, 80_000)), ((true, false), (false, false)));
        assert!(!paths.is_closed(3) && !paths.may_bounce(3, 80_000, 80_032));
        paths.written(3, (true, false), (90_000, 90_010), 0);
        assert_eq!(waits(&paths, 90_500), (false, false), "never said to be made anew");
    }
}
