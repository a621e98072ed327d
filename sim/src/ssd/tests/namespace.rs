//! One namespace through several controllers.

use super::*;

/// The host of the first controller, and what it needs to be that of the second.
pub(super) struct Two {
    pub(super) host: Host,
    pub(super) other: (SimFunction, Pair),
}

impl Two {
    pub(super) fn new() -> Self {
        let first = SsdConfig::new("a", 512, 100);
        let config = SimulatorConfig::new(crate::test_seed()).with_ssd(first.clone());
        let mut host = Host::of_machine(config.with_ssd(first.further_controller("b")));
        let ssd = host.platform.open("sim:b").expect("SSD");
        let admin = Pair::new(&mut host.platform, 0, 8);
        let mut two = Two { host, other: (ssd, admin) };
        two.turn();
        two.host.enable();
        two.turn();
        two
    }

    /// Makes the host that of the other controller.
    pub(super) fn turn(&mut self) {
        std::mem::swap(&mut self.host.ssd, &mut self.other.0);
        std::mem::swap(&mut self.host.admin, &mut self.other.1);
    }
}

#[test]
fn two_controllers_say_that_they_share_one_namespace() {
    let mut two = Two::new();
    let first = (two.host.identify(1, 0), two.host.identify(0, 1));
    two.turn();
    let second = (two.host.identify(1, 0), two.host.identify(0, 1));
    assert_eq!(first.1, second.1, "one namespace");
    assert_eq!(first.0[4..64], second.0[4..64], "one subsystem: serial number and model");
    assert_eq!((first.0[76], second.0[76], first.1[30]), (3, 3, 1), "CMIC, NMIC");
    assert_ne!(first.0[78..80], second.0[78..80], "controller identifiers differ");
    assert!(first.1[104..120] != [0; 16] && first.1[120..128] != [0; 8], "NGUID, EUI-64");
    let mut alone = Host::new(SsdConfig::new("b", 512, 100));
    let (controller, namespace) = (alone.identify(1, 0), alone.identify(0, 1));
    assert_eq!((controller[76], namespace[30]), (0, 0));
    assert!(namespace[104..120] != first.1[104..120] && namespace[120..128] != first.1[120..128]);
}

#[test]
fn what_one_controller_writes_the_other_reads_and_queues_are_apart() {
    let mut two = Two::new();
    let buffer = two.host.platform.allocate(2 * 4096).expect("memory");
    buffer.fill(0, 4096, 0x5A);
    let mut first = two.host.create_pair(1, 4);
    two.turn();
    let mut second = two.host.create_pair(1, 8);
    assert_eq!(status_of(two.host.execute(&mut second, io(2, 7, 1, buffer.iova().0 + 4096, 0))), 0);
    assert_eq!(buffer.load_acquire(4096), 0, "never written");
    two.turn();
    assert_eq!(status_of(two.host.execute(&mut first, io(1, 7, 1, buffer.iova().0, 0))), 0);
    // A reset of the first leaves the second alone.
    two.host.ssd.write32(Bar::Bar0, 0x14, 0).expect("CC");
    two.turn();
    assert_eq!(status_of(two.host.execute(&mut second, io(2, 7, 1, buffer.iova().0 + 4096, 0))), 0);
    assert_eq!(buffer.load_acquire(4096), 0x5A5A_5A5A);
    let mut media = [[0; 512]; 2];
    two.host.handle.read_media("a", 7 * 512, &mut media[0]).expect("media");
    two.host.handle.read_media("b", 7 * 512, &mut media[1]).expect("media");
    assert_eq!(media, [[0x5A; 512]; 2]);
    assert_eq!(two.host.handle.take_commands("a").0.len(), 1);
    assert_eq!(two.host.handle.take_commands("b").0.len(), 2);
    assert!(two.host.handle.ssd_complaints().is_empty());
}

#[test]
fn a_namespace_has_one_owner_one_shape_and_at_most_four_controllers() {
    let first = SsdConfig::new("a", 512, 100);
    let machine = |ssds: Vec<SsdConfig>| {
        let config = ssds.into_iter().fold(SimulatorConfig::new(1), SimulatorConfig::with_ssd);
        SimPlatform::new(config).is_ok()
    };
    let further = |name: &str| first.further_controller(name);
    assert!(machine(vec![further("b"), first.clone(), further("c"), further("b").further_controller("d")]));
    assert!(!machine(vec![further("b")]), "the owner is missing");
    let owned_by_b = SsdConfig { namespace_of: Some("b".into()), ..further("c") };
    assert!(!machine(vec![first.clone(), further("b"), owned_by_b]), "no chains");
    assert!(!machine(vec![SsdConfig { namespace_of: Some("a".into()), ..first.clone() }]), "not of itself");
    assert!(!machine(vec![first.clone(), SsdConfig { blocks: 99, ..further("b") }]));
    assert!(!machine(vec![first.clone(), SsdConfig { block_size: 4096, ..further("b") }]));
    assert!(!machine(vec![first.clone(), further("b").with_file("/dev/null")]));
    let five = ["b", "c", "d", "e"].map(further).into_iter().chain([first.clone()]);
    assert!(!machine(five.collect()));
}
