//! Who holds plan slots, by the card's trace: never more than the quotas of queue and disk allow.
//!
//! A slot is held from the command's admission to the plan's end, and a few cycles longer, which the trace does not
//! show: so the card may hold back a command that would seem to fit, and none that does not fit may be admitted.

use std::collections::BTreeMap;

use volplane_abi::QuotaEntry;
use volplane_sim::{PlanEvent, PlanRecord};

use crate::harness::plan_story::CommandKey;
use crate::harness::Configuration;

/// A queue and a disk that had all their slots.
const FULL: [&str; 2] = ["a queue with all its slots", "a disk with all its slots"];

/// Queue and namespace of each slot that is held.
#[derive(Default)]
pub(super) struct Slots(BTreeMap<u16, (u16, u32)>);

impl Slots {
    /// Takes events in, and says what was met; `namespace` knows of each command that was sent whose disk it names.
    ///
    /// # Errors
    /// Says which quota was exceeded.
    pub(super) fn look(
        &mut self,
        configuration: &Configuration,
        events: &[PlanRecord],
        namespace: impl Fn(CommandKey) -> Option<u32>,
    ) -> Result<Vec<&'static str>, String> {
        let mut met = Vec::new();
        for record in events {
            match record.event {
                PlanEvent::Admitted { slot, queue, command_id } => {
                    let named = namespace((queue, command_id)).ok_or("a command that nobody sent")?;
                    self.0.insert(slot, (queue, named));
                    let full = self.check(configuration, queue, named);
                    met.extend(full.map_err(|what| format!("{what} in cycle {}", record.cycle))?);
                }
                PlanEvent::Done { slot, .. } => drop(self.0.remove(&slot)),
                _ => {}
            }
        }
        Ok(met)
    }

    /// Which of a command's queue and disk have all their slots with it.
    fn check(
        &self,
        configuration: &Configuration,
        queue: u16,
        named: u32,
    ) -> Result<Vec<&'static str>, String> {
        let client = configuration.clients.iter().find(|client| client.queue == queue);
        let of_queue = client.map_or(0, |client| client.slots);
        let disk = named.checked_sub(1).and_then(|disk| configuration.tables.quotas.get(&disk));
        let of_disk = disk.map_or(0, QuotaEntry::slots);
        let held = |of: &dyn Fn(u16, u32) -> bool| self.0.values().filter(|(q, n)| of(*q, *n)).count();
        let mut full = Vec::new();
        for (what, met, quota, count) in [
            (format!("queue {queue}"), FULL[0], of_queue, held(&|q, _| q == queue)),
            (format!("namespace {named}"), FULL[1], of_disk, held(&|_, n| n == named)),
        ] {
            if quota > 0 && count > quota.into() {
                return Err(format!("{what} holds {count} slots, its quota is {quota}"));
            }
            full.extend((count == usize::from(quota)).then_some(met));
        }
        Ok(full)
    }
}
