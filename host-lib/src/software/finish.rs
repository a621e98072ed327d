//! What becomes of a plan when something of it has come back: the verdict of the masks, and its effects.

use volplane_abi::plan::reason;

use super::engine::{is_read, Action, DataPath};
use super::plan::{ClientTag, Owner};
use super::record::Record;
use super::template::{ComponentState, Components};
use super::verdict::{log, of_read, of_write, End, Progress, Step};

impl DataPath {
    /// Looks what has become of a plan, and ends it if it has ended.
    pub(super) fn proceed(&mut self, slot: u16) {
        let Some(plan) = self.plans.get(&slot) else { return };
        if plan.owner != Owner::Accelerated {
            return;
        }
        if let Some(status) = plan.aborted {
            if plan.is_quiet() {
                let client = plan.client;
                self.close(slot, client, status);
            }
            return;
        }
        let parts = plan.progress();
        let verdict = if is_read(&plan.entry) {
            of_read(&plan.template, &parts, self.tables.in_sync(plan.disk))
        } else {
            of_write(&plan.template, &parts, self.tables.durably_out(plan.disk))
        };
        let (disk, stop, quiet) = (plan.disk, plan.stop, plan.is_quiet());
        // Whoever needs a record waits for room in the ring.
        let posts = quiet && self.records.has_room();
        if verdict.deactivate && !plan.deactivated {
            self.plan(slot).deactivated = true;
            self.deactivate(disk);
        }
        match verdict.step {
            _ if stop != 0 && posts => self.divert(slot, stop),
            _ if stop != 0 => {}
            Step::Wait => {}
            Step::Drain => self.plan(slot).stop |= reason::COMPONENT_FAILURE,
            Step::Read(left) => self.read_another(slot, left),
            Step::Exception(reasons) if posts => self.divert(slot, reasons),
            Step::End(end) if posts || quiet && end.reasons == 0 => self.end(slot, end),
            Step::Exception(_) | Step::End(_) => {}
        }
    }

    fn deactivate(&mut self, disk: u16) {
        let states = self.tables.states_of(disk);
        if states.deactivated() == 0 {
            self.tables.states.insert(disk, states.with_deactivated(1));
            self.act(Action::Deactivated { disk });
        }
    }

    /// The policy says which copy a read tries first; it goes on with the lowest-numbered one that is left.
    fn read_another(&mut self, slot: u16, left: Components) {
        let goes_on = self.plans[&slot].parts.iter().any(|part| part.begun);
        let next = if goes_on { left.numbers().next() } else { self.choose(slot, left) };
        if let Some(next) = next {
            self.begin_parts(slot, Components::one(next));
        }
    }

    /// Hands a plan to the control path.
    fn divert(&mut self, slot: u16, reasons: u16) {
        let parts = self.plans[&slot].progress();
        let failed = Components::of(|n| matches!(parts[n], Progress::Failed(_)));
        let plan = &self.plans[&slot];
        let masks = if is_read(&plan.entry) { plan.template.read } else { plan.template.write };
        let unforgiven = failed.without(masks.continuation).any();
        let mut reasons = reasons | plan.noted() | log(&masks, failed);
        if unforgiven {
            reasons |= reason::COMPONENT_FAILURE;
        }
        self.give(slot, Owner::Control);
        let record = Record::of(&self.plans[&slot], reasons);
        self.records.post(record);
    }

    fn end(&mut self, slot: u16, end: End) {
        if end.status == 0 && self.plans[&slot].then.is_some() {
            // The control path copies: it is told what failed, and waits for nothing.
            if end.reasons != 0 {
                self.records.post(Record::of(&self.plans[&slot], end.reasons & !reason::LOG_WITH_DATA));
            }
            return self.begin_second(slot);
        }
        let plan = &self.plans[&slot];
        let (disk, client, noted) = (plan.disk, plan.client, plan.noted());
        end.out.numbers().for_each(|component| self.move_out(disk, component));
        if end.held {
            self.give(slot, Owner::Ended(end));
        }
        if end.reasons != 0 {
            let record = Record::of(&self.plans[&slot], end.reasons | noted);
            self.records.post(record);
        }
        if !end.held {
            self.close(slot, client, end.status);
        }
    }

    /// Changes a plan's owner, and with it its name.
    pub(super) fn give(&mut self, slot: u16, owner: Owner) {
        let generation = self.renew(slot);
        let given = &self.plans[&slot];
        let mut others = self.plans.values().filter(|other| other.handle.slot != slot);
        let overtaken = others.any(|other| other.owner == Owner::Accelerated && other.overlaps(given));
        self.relock();
        let plan = self.plan(slot);
        plan.overtaken = overtaken && owner == Owner::Control;
        plan.handle.generation = generation;
        (plan.owner, plan.stop) = (owner, 0);
        (plan.locks, plan.blocked) = (None, false);
    }

    /// The write of a copy whose read has succeeded. Its blocks were locked before the read.
    fn begin_second(&mut self, slot: u16) {
        let second = self.plan(slot).then.take().expect("the caller saw it");
        let template = self.template(second.disk);
        let template_number = self.tables.template_number(second.disk);
        let plan = self.plan(slot);
        (plan.disk, plan.entry, plan.range) = (second.disk, second.entry, second.range);
        (plan.template, plan.admission) = (template, second.admission);
        plan.template_number = template_number;
        plan.parts = Default::default();
        self.begin_parts(slot, template.writable());
    }

    fn move_out(&mut self, disk: u16, component: usize) {
        let states = self.tables.states_of(disk);
        let state = ComponentState::in_entry(&states, component);
        if matches!(state, ComponentState::InSync | ComponentState::WriteOnly) {
            self.tables.states.insert(disk, ComponentState::Out.put(states, component));
            self.act(Action::MovedOut { disk, component });
            self.look_at_all();
        }
    }

    /// Frees a slot and answers its client.
    pub(super) fn close(&mut self, slot: u16, client: ClientTag, status: u16) {
        if self.plans.remove(&slot).is_some_and(|plan| plan.locks.is_some()) {
            self.relock();
        }
        self.free.insert(slot);
        self.renew(slot);
        self.act(Action::Complete { client, status });
    }
}
