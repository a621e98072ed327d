//! Controllers that do not come up, or stop answering.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use volplane_abi::nvme::{admin, cc, csts};

use super::*;
use crate::memory::Iova;

/// CAP: 16 entries, 500 ms to become ready, the NVM command set.
const CAP: u64 = 15 | 1 << 24 | 1 << 37;

/// How a controller misbehaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    NeverReady,
    NeverDisabled,
    Fatal,
    NoCompletions,
}

/// Registers that keep what is written, but for CAP and CSTS.
struct Registers {
    cap: u64,
    fault: Fault,
    written: BTreeMap<u64, u32>,
}

struct Stuck(Arc<Mutex<Registers>>);

impl Function for Stuck {
    fn name(&self) -> &str {
        "stuck"
    }
    fn bar_len(&self, _: Bar) -> u64 {
        0x2000
    }
    fn bar_iova(&self, _: Bar) -> Iova {
        Iova(0)
    }
    fn read32(&self, _: Bar, offset: u64) -> Result<u32, AccessError> {
        let registers = self.0.lock().expect("one thread");
        let enabled = registers.written.get(&register::CC).copied().unwrap_or(0) & cc::EN.put32(1) != 0;
        Ok(match offset {
            register::CAP => registers.cap as u32,
            4 => (registers.cap >> 32) as u32,
            register::CSTS => match registers.fault {
                Fault::NeverReady => 0,
                Fault::NeverDisabled => csts::RDY.put32(1),
                Fault::Fatal if enabled => 2,
                _ => u32::from(enabled),
            },
            _ => registers.written.get(&offset).copied().unwrap_or(0),
        })
    }
    fn write32(&self, _: Bar, offset: u64, value: u32) -> Result<(), AccessError> {
        self.0.lock().expect("one thread").written.insert(offset, value);
        Ok(())
    }
    fn config_read32(&self, _: u16) -> Result<u32, AccessError> {
        Ok(0)
    }
    fn config_write32(&self, _: u16, _: u32) -> Result<(), AccessError> {
        Ok(())
    }
    fn enable_interrupts(&mut self, _: u16) -> Result<(), AccessError> {
        Ok(())
    }
    fn take_interrupt(&self, _: u16) -> bool {
        false
    }
    fn reset(&mut self) -> Result<(), AccessError> {
        Ok(())
    }
}

struct Machine {
    registers: Arc<Mutex<Registers>>,
    now: Duration,
}

impl Machine {
    fn new(cap: u64, fault: Fault) -> Self {
        let registers = Registers { cap, fault, written: BTreeMap::new() };
        Self { registers: Arc::new(Mutex::new(registers)), now: Duration::ZERO }
    }

    fn written(&self, offset: u64) -> Option<u32> {
        self.registers.lock().expect("one thread").written.get(&offset).copied()
    }
}

impl Platform for Machine {
    type Function = Stuck;
    fn open(&mut self, _: &str) -> Result<Stuck, AccessError> {
        Ok(Stuck(self.registers.clone()))
    }
    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory, AccessError> {
        let map = memmap2::MmapMut::map_anon(bytes).expect("memory");
        Ok(DmaMemory::new(map, Iova(0x7_1234_5000), ()))
    }
    fn now(&self) -> Duration {
        self.now
    }
    fn wait(&mut self, deadline: Duration) -> Result<(), AccessError> {
        self.now = self.now.max(deadline);
        Ok(())
    }
}

fn open(machine: &mut Machine) -> NvmeError {
    NvmeController::open(machine, "").expect_err("a stuck controller")
}

#[test]
fn waits_for_the_controller_are_bounded_by_its_own_limit() {
    for (fault, expected) in [(Fault::NeverReady, "become ready"), (Fault::NeverDisabled, "disable")] {
        for units in [0u64, 1, 20] {
            let mut machine = Machine::new(CAP & !(0xFF << 24) | units << 24, fault);
            let error = open(&mut machine);
            assert!(matches!(error, NvmeError::Timeout { what, .. } if what == expected), "{error}");
            assert_eq!(machine.now, Duration::from_millis(500) * units.max(1) as u32);
            assert_eq!(machine.written(register::CC), Some(0), "left disabled");
        }
    }
}

#[test]
fn a_fatal_status_ends_the_wait() {
    let mut machine = Machine::new(CAP, Fault::Fatal);
    let error = open(&mut machine);
    assert!(matches!(error, NvmeError::Fatal { csts: 2, .. }), "{error}");
    assert_eq!(machine.now, Duration::ZERO);
    assert_eq!(machine.written(register::CC), Some(0), "left disabled");
}

#[test]
fn an_admin_command_without_completion_is_named_and_the_controller_disabled() {
    let mut machine = Machine::new(CAP, Fault::NoCompletions);
    let error = open(&mut machine);
    assert!(matches!(error, NvmeError::AdminTimeout { opcode: admin::IDENTIFY, .. }), "{error}");
    assert_eq!(machine.written(register::CC), Some(0), "dropped, so disabled");
    // Literal values of NVMe Base 2.0, section 3.1.3: AQA, ASQ, the first admin doorbell.
    assert_eq!(machine.written(0x24), Some(0x000F_000F));
    assert_eq!((machine.written(0x28), machine.written(0x2C)), (Some(0x1234_5000), Some(7)));
    assert_eq!(machine.written(0x1000), Some(1));
}

#[test]
fn controllers_that_cannot_be_used_are_not_enabled() {
    for cap in [u64::MAX, CAP & !(1 << 37), CAP | 1 << 48, CAP & !0xFFFF] {
        let mut machine = Machine::new(cap, Fault::NoCompletions);
        let error = open(&mut machine);
        assert!(matches!(error, NvmeError::Unsupported { .. }), "{cap:#x}: {error}");
        assert_eq!(machine.written(register::CC), None, "{cap:#x}");
    }
}
