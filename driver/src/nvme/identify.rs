//! Identify (NVMe Base 2.0, section 5.17): the controller, its namespaces, their limits.

use volplane_abi::nvme::{
    admin, cns, lba_format, IdentifyController, IdentifyNamespace, IdentifyNvmController, FLBAS_INDEX,
    FLBAS_INDEX_HIGH, ONCS_DATASET_MANAGEMENT, ONCS_WRITE_ZEROES,
};
use zerocopy::{FromBytes, IntoBytes};

use super::admin::{command, AdminQueue};
use super::{NvmeController, NvmeError};
use crate::memory::PAGE;
use crate::platform::{Function, Platform};

/// Most blocks that NLB, zero-based in 16 bits, can say.
const COMMAND_BLOCKS_MAX: u64 = 1 << 16;
/// Namespace identifiers in one list.
const LIST_ENTRIES: usize = PAGE / 4;

/// What a controller says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerIdentity {
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware revision.
    pub firmware: String,
    /// Highest namespace identifier.
    pub namespaces_max: u32,
    /// Most bytes of a data transfer; none: no limit.
    pub transfer_bytes: Option<u64>,
    /// Write Zeroes is served.
    pub write_zeroes: bool,
    /// Dataset Management is served.
    pub dataset_management: bool,
    /// There is a volatile write cache: Flush means something.
    pub volatile_write_cache: bool,
}

/// A namespace, and what one command to it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceLimits {
    /// NSID.
    pub namespace: u32,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Size in blocks.
    pub blocks: u64,
    /// Most blocks of a Read or Write (MDTS), at most 65,536.
    pub transfer_blocks: u32,
    /// Most blocks of a Write Zeroes (WZSL; MDTS where the controller does not say).
    pub write_zeroes_blocks: u32,
    /// Most blocks of a Dataset Management range.
    pub deallocate_blocks: u32,
    /// Most entries of an I/O queue.
    pub queue_entries_max: u32,
    /// Write Zeroes is served.
    pub write_zeroes: bool,
    /// Dataset Management is served.
    pub dataset_management: bool,
    /// There is a volatile write cache.
    pub volatile_write_cache: bool,
}

impl<F: Function> AdminQueue<F> {
    /// Identify of the controller.
    pub(super) fn identify_controller<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
    ) -> Result<ControllerIdentity, NvmeError> {
        let data: IdentifyController = self.identify(platform, cns::CONTROLLER, 0)?;
        Ok(ControllerIdentity {
            model: text(&data.mn),
            serial: text(&data.sn),
            firmware: text(&data.fr),
            namespaces_max: data.nn,
            transfer_bytes: pages_to_bytes(data.mdts),
            write_zeroes: data.oncs & ONCS_WRITE_ZEROES != 0,
            dataset_management: data.oncs & ONCS_DATASET_MANAGEMENT != 0,
            volatile_write_cache: data.vwc & 1 != 0,
        })
    }

    /// Active namespaces, ascending. A controller that lists identifiers out of order, or above
    /// `namespaces_max`, ends the list there.
    pub(super) fn active_namespaces<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        namespaces_max: u32,
    ) -> Result<Vec<u32>, NvmeError> {
        let mut found: Vec<u32> = Vec::new();
        loop {
            let after = found.last().copied().unwrap_or(0);
            let list: [u32; LIST_ENTRIES] = self.identify(platform, cns::ACTIVE_NAMESPACES, after)?;
            for namespace in list.map(u32::from_le) {
                if namespace <= found.last().copied().unwrap_or(0) || namespace > namespaces_max {
                    return Ok(found);
                }
                found.push(namespace);
            }
        }
    }

    /// Most bytes of a Write Zeroes and most blocks of a Dataset Management range, where the
    /// controller says. Older controllers refuse the question.
    fn command_set_limits<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
    ) -> Result<(Option<u64>, Option<u32>), NvmeError> {
        match self.identify::<P, IdentifyNvmController>(platform, cns::COMMAND_SET_CONTROLLER, 0) {
            Ok(data) => Ok((pages_to_bytes(data.wzsl), Some(data.dmrsl).filter(|&blocks| blocks != 0))),
            Err(NvmeError::Admin { .. }) => Ok((None, None)),
            Err(error) => Err(error),
        }
    }

    fn identify<P: Platform<Function = F>, T: FromBytes + IntoBytes>(
        &mut self,
        platform: &mut P,
        structure: u8,
        namespace: u32,
    ) -> Result<T, NvmeError> {
        self.page.fill(0, PAGE, 0);
        let command = command(admin::IDENTIFY, structure.into(), 0)
            .with_namespace_id(namespace)
            .with_prp1(self.page.iova().0);
        self.execute(platform, command)?;
        Ok(self.page.read_record(0))
    }
}

impl<F: Function> NvmeController<F> {
    /// Identifies a namespace, and says what one command to it may be.
    ///
    /// # Errors
    /// `NvmeError::Namespace` when it is not active or its format is not served (metadata, blocks
    /// other than 512 to 4,096 bytes), and what else `NvmeError` names.
    pub fn limits<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        namespace: u32,
    ) -> Result<NamespaceLimits, NvmeError> {
        if !self.namespaces.contains(&namespace) {
            return Err(self.namespace_error(namespace, "is not active".to_owned()));
        }
        let data: IdentifyNamespace = self.admin.identify(platform, cns::NAMESPACE, namespace)?;
        let block_shift = block_shift(&data).map_err(|reason| self.namespace_error(namespace, reason))?;
        let (write_zeroes_bytes, deallocate_blocks) = self.admin.command_set_limits(platform)?;
        let in_blocks = |bytes: Option<u64>| {
            bytes.map_or(COMMAND_BLOCKS_MAX, |bytes| (bytes >> block_shift).min(COMMAND_BLOCKS_MAX)) as u32
        };
        let identity = &self.identity;
        Ok(NamespaceLimits {
            namespace,
            block_bytes: 1 << block_shift,
            blocks: data.nsze,
            transfer_blocks: in_blocks(identity.transfer_bytes),
            write_zeroes_blocks: in_blocks(write_zeroes_bytes.or(identity.transfer_bytes)),
            deallocate_blocks: deallocate_blocks.unwrap_or(u32::MAX),
            queue_entries_max: self.capabilities.queue_entries_max(),
            write_zeroes: identity.write_zeroes,
            dataset_management: identity.dataset_management,
            volatile_write_cache: identity.volatile_write_cache,
        })
    }

    fn namespace_error(&self, namespace: u32, reason: String) -> NvmeError {
        NvmeError::Namespace { controller: self.admin.controller().to_owned(), namespace, reason }
    }
}

/// log2 of a namespace's block size.
fn block_shift(data: &IdentifyNamespace) -> Result<u32, String> {
    if data.nsze == 0 {
        return Err("has no blocks".to_owned());
    }
    let flbas = u32::from(data.flbas);
    let high = if data.nlbaf > 15 { FLBAS_INDEX_HIGH.of32(flbas) } else { 0 };
    let format = data.lbaf[(FLBAS_INDEX.of32(flbas) | high << FLBAS_INDEX.width()) as usize];
    let (metadata_bytes, shift) = (lba_format::MS.of32(format), lba_format::LBADS.of32(format));
    if metadata_bytes != 0 {
        return Err(format!("has {metadata_bytes} bytes of metadata a block, which is not served"));
    }
    if !(9..=12).contains(&shift) {
        return Err(format!("has blocks of 2^{shift} bytes; 512 to 4096 are served"));
    }
    Ok(shift)
}

/// A limit given as log2 of 4 KiB pages, where 0 is none.
fn pages_to_bytes(log2: u8) -> Option<u64> {
    (log2 != 0).then(|| (PAGE as u64) << log2.min(40))
}

/// ASCII padded with spaces; whatever else a controller puts there is shown as `?`.
fn text(bytes: &[u8]) -> String {
    let printable = |&byte: &u8| if (0x20..0x7F).contains(&byte) { byte as char } else { '?' };
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes[..end].iter().map(printable).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    fn namespace(format: u32) -> IdentifyNamespace {
        let mut data = IdentifyNamespace::new_zeroed();
        data.nsze = 8;
        data.flbas = 1;
        data.nlbaf = 1;
        data.lbaf[1] = format;
        data
    }

    #[test]
    fn block_sizes_of_512_to_4096_bytes_are_served() {
        for shift in 0..32 {
            assert_eq!(block_shift(&namespace(shift << 16)).ok(), (9..=12).contains(&shift).then_some(shift));
        }
        assert!(block_shift(&namespace(9 << 16 | 8)).is_err(), "metadata");
        let mut empty = namespace(9 << 16);
        empty.nsze = 0;
        assert!(block_shift(&empty).is_err(), "no blocks");
    }

    #[test]
    fn the_format_index_has_two_high_bits_above_sixteen_formats() {
        let mut data = namespace(9 << 16);
        data.flbas = 0b0010_0001;
        data.lbaf[17] = 12 << 16;
        assert_eq!(block_shift(&data), Ok(9), "up to 16 formats the high bits mean nothing");
        data.nlbaf = 17;
        assert_eq!(block_shift(&data), Ok(12));
    }

    #[test]
    fn names_are_trimmed_and_made_printable() {
        assert_eq!(text(b"Model 7     "), "Model 7");
        assert_eq!(text(b"AB\x1b[2J\0junk"), "AB?[2J");
    }

    #[test]
    fn limits_are_powers_of_two_of_pages() {
        assert_eq!(pages_to_bytes(0), None);
        assert_eq!(pages_to_bytes(5), Some(131_072));
        assert!(pages_to_bytes(255).is_some(), "nonsense does not overflow");
    }
}
