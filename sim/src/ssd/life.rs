//! The death of a controller, as if it were pulled out, and its return (NVMe Base 2.0, section 3.7.2:
//! the loss of its link resets a controller and ends what it executes).

use crate::bus::Bus;
use crate::events::SsdEvent;
use crate::faults::{Fault, FaultId, FaultKind, FaultReport, Moment};
use crate::probe::EndRecord;

use super::{status, Ssd};

impl Ssd {
    /// Whether the controller is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.deaths.values().any(|&struck| struck)
    }

    /// Starts a fault of this controller; those of a whole device are announced to the others by the
    /// caller.
    pub(crate) fn start_fault(&mut self, bus: &mut Bus, fault: &Fault) -> FaultId {
        let id = self.faults.start(fault.clone(), bus.now_ns());
        self.expect_death(bus, id, fault);
        id
    }

    /// The controllers that a fault of this one may kill.
    pub(crate) fn struck_by(&self, fault: &Fault) -> Vec<usize> {
        match fault.kind {
            FaultKind::DeadPath(_) => vec![self.index],
            FaultKind::DeadDevice(_) => self.namespace.controllers().to_vec(),
            _ => Vec::new(),
        }
    }

    /// Prepares for a death that a fault may bring.
    pub(crate) fn expect_death(&mut self, bus: &mut Bus, id: FaultId, fault: &Fault) {
        let Some(moment) = fault.death() else { return };
        self.deaths.insert(id, false);
        if moment == Moment::Beginning && fault.until_ns.is_none_or(|until_ns| fault.from_ns < until_ns) {
            let at_ns = bus.now_ns().saturating_add(fault.from_ns);
            if at_ns == bus.now_ns() {
                self.die(bus, id);
            } else {
                bus.events.schedule(at_ns, self.index, SsdEvent::Die { fault: id });
            }
        }
        if let Some(until_ns) = fault.until_ns {
            let at_ns = bus.now_ns().saturating_add(until_ns);
            bus.events.schedule(at_ns, self.index, SsdEvent::Return { fault: id });
        }
    }

    /// Ends a fault here.
    pub(crate) fn stop_fault(&mut self, bus: &Bus, id: FaultId) {
        if id.ssd == self.index {
            self.faults.stop(id, bus.now_ns());
        }
        self.come_back(bus.now_ns(), id);
    }

    pub(crate) fn active_faults(&self) -> Vec<FaultId> {
        self.faults.active()
    }

    pub(crate) fn fault_reports(&self) -> Vec<FaultReport> {
        self.faults.reports()
    }

    /// Dies of the faults that the command judged last brought down on it; whether it did.
    pub(super) fn die_of_command(&mut self, bus: &mut Bus) -> bool {
        let deadly = self.faults.take_deadly();
        for (id, fault) in &deadly {
            for other in self.struck_by(fault).into_iter().filter(|&other| other != self.index) {
                bus.events.schedule(bus.now_ns(), other, SsdEvent::Die { fault: *id });
            }
            self.die(bus, *id);
        }
        !deadly.is_empty()
    }

    /// Is gone from now on, unless the fault was stopped.
    pub(super) fn die(&mut self, bus: &mut Bus, id: FaultId) {
        let was_dead = self.is_dead();
        let Some(struck) = self.deaths.get_mut(&id) else { return };
        *struck = true;
        if id.ssd == self.index {
            self.faults.note_death(id);
        }
        if was_dead {
            return;
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].busy && self.slots[slot].execution.effect && self.faults.took_effect() {
                self.take_last_effect(bus, slot);
            }
        }
        self.reset_function(bus.now_ns());
    }

    /// Is there again, as at power-on, unless another fault keeps it away.
    pub(super) fn come_back(&mut self, at_ns: u64, id: FaultId) {
        let was_dead = self.is_dead();
        self.deaths.remove(&id);
        if was_dead && !self.is_dead() {
            self.reset_function(at_ns);
        }
    }

    /// A command takes effect as its controller dies: nobody is left to be told how it ended.
    fn take_last_effect(&mut self, bus: &mut Bus, slot: usize) {
        let record = self.slots[slot].record.clone();
        let effect = self.effect(bus, &record);
        if self.ends.is_on() {
            self.ends.push(EndRecord {
                order: record.order,
                at_ns: bus.now_ns(),
                effect: effect.is_ok(),
                status: effect.err().map_or(0, status::with_dnr),
                completion: false,
                withdrawn: false,
                turn: self.namespace.next_end(),
            });
        }
    }
}
