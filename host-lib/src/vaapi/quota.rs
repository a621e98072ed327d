//! Quotas of plan slots: how many commands of a disk the data path has in work at once.

use volplane_abi::tables::table;
use volplane_abi::QuotaEntry;

use super::{argument, read, write, ControlPath, TableEntry, Tables, VaapiError};
use crate::service::VdHandle;

impl ControlPath {
    /// AP_SetSlotQuotaVD: the most plan slots that a disk's commands hold at once, 1 and up; `None` is no quota. What is
    /// above waits in the rings, and only what stands behind it there waits with it. The seed has no such call.
    ///
    /// # Errors
    /// `NoSuchDisk`, `Argument` for none at all; of the card.
    pub fn ap_set_slot_quota_vd(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        slots: Option<u16>,
    ) -> Result<(), VaapiError> {
        const CALL: &str = "AP_SetSlotQuotaVD";
        self.disk(CALL, disk)?;
        if slots == Some(0) {
            return Err(argument(
                CALL,
                format!("{disk}: a quota of no slots; a disk is stopped by its status"),
            ));
        }
        let entry = QuotaEntry::default().with_slots(slots.unwrap_or(0));
        write(CALL, tables, &[TableEntry::new(table::QUOTA, disk.0.into(), &entry.0)])
    }

    /// RI_GetSlotQuotaVD: what `ap_set_slot_quota_vd` has set. The seed has no such call.
    ///
    /// # Errors
    /// `NoSuchDisk`; of the card.
    pub fn ri_get_slot_quota_vd(
        &self,
        tables: &mut dyn Tables,
        disk: VdHandle,
    ) -> Result<Option<u16>, VaapiError> {
        const CALL: &str = "RI_GetSlotQuotaVD";
        self.disk(CALL, disk)?;
        let entry: QuotaEntry = read(CALL, tables, table::QUOTA, disk.0.into())?;
        Ok(Some(entry.slots()).filter(|&slots| slots > 0))
    }
}
