//! Identify data (NVMe Base 2.0, section 5.17; NVM Command Set 1.0, section 4.1.5).

use volplane_abi::nvme::{
    cns, lba_format, IdentifyController, IdentifyNamespace, IdentifyNvmController, CMIC_CONTROLLERS,
    CMIC_PORTS, NMIC_SHARED, ONCS_DATASET_MANAGEMENT, ONCS_WRITE_ZEROES,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::config::SsdConfig;
use crate::random;

use super::{status, Namespace, VENDOR, VERSION};

/// ONCS: Compare is served.
const ONCS_COMPARE: u16 = 1;
/// Who gave the identifiers: QEMU, as it is the vendor.
const OUI: [u8; 3] = [0x52, 0x54, 0x00];

/// The page that Identify returns, or a status.
pub(crate) fn page(
    config: &SsdConfig,
    shared: &Namespace,
    which: u8,
    namespace: u32,
    index: usize,
) -> Result<[u8; 4096], u16> {
    let mut page = [0; 4096];
    match which {
        cns::CONTROLLER => page.copy_from_slice(controller(config, shared, index).as_bytes()),
        cns::NAMESPACE if namespace == 1 || namespace == u32::MAX => {
            page.copy_from_slice(namespace_data(config, shared).as_bytes());
        }
        cns::NAMESPACE => return Err(status::INVALID_NAMESPACE),
        cns::ACTIVE_NAMESPACES if namespace < 1 => page[0] = 1,
        cns::ACTIVE_NAMESPACES => {}
        cns::COMMAND_SET_CONTROLLER => {
            let mut data = IdentifyNvmController::new_zeroed();
            data.wzsl = config.wzsl;
            page.copy_from_slice(data.as_bytes());
        }
        _ => return Err(status::INVALID_FIELD),
    }
    Ok(page)
}

fn controller(config: &SsdConfig, namespace: &Namespace, index: usize) -> IdentifyController {
    let mut data = IdentifyController::new_zeroed();
    data.vid = VENDOR;
    data.ssvid = VENDOR;
    // Serial number and model are the subsystem's: all its controllers say the same.
    ascii(&mut data.sn, namespace.owner());
    ascii(&mut data.mn, "Volplane simulated SSD");
    ascii(&mut data.fr, "1");
    if namespace.is_shared() {
        data.cmic = CMIC_PORTS | CMIC_CONTROLLERS;
    }
    data.mdts = config.mdts;
    data.cntlid = index as u16;
    data.ver = VERSION;
    // Required and largest entry sizes: 2^6 and 2^4 bytes.
    data.sqes = 0x66;
    data.cqes = 0x44;
    data.nn = 1;
    data.oncs = ONCS_COMPARE | ONCS_DATASET_MANAGEMENT | ONCS_WRITE_ZEROES;
    data.vwc = 1;
    data
}

fn namespace_data(config: &SsdConfig, namespace: &Namespace) -> IdentifyNamespace {
    let mut data = IdentifyNamespace::new_zeroed();
    data.nsze = config.blocks;
    data.ncap = config.blocks;
    data.nuse = config.blocks;
    if namespace.is_shared() {
        data.nmic = NMIC_SHARED;
    }
    let unique = random::hash(namespace.owner()).to_be_bytes();
    data.eui64 = unique;
    data.eui64[..3].copy_from_slice(&OUI);
    // Vendor's extension, OUI, extension; the latter two as in the EUI-64.
    data.nguid[..8].copy_from_slice(&unique);
    data.nguid[8..].copy_from_slice(&data.eui64);
    data.lbaf[0] = lba_format::LBADS.put32(config.block_shift());
    data
}

/// Fills a text field: ASCII, padded with spaces.
fn ascii(field: &mut [u8], text: &str) {
    field.fill(b' ');
    for (to, from) in field.iter_mut().zip(text.bytes().filter(u8::is_ascii_graphic)) {
        *to = from;
    }
}
