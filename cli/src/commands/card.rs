//! `volplane card`: identity, capabilities and registers of the card.

use volplane_abi::registers::Access;
use volplane_cli::backend;
use volplane_driver::{Card, Function, RegisterValue};

use super::{print, table, Failure};
use crate::CardKind;

/// Opens a card and prints its registers.
pub fn run(card: CardKind) -> Result<(), Failure> {
    match card {
        CardKind::Sim => show(&backend::open_simulated_card()?),
        CardKind::Function(address) => show(&backend::open_card(address)?),
        CardKind::Software => Err(Failure::Input("there is no card to show with --card software".to_owned())),
    }
}

fn show<F: Function>(card: &Card<F>) -> Result<(), Failure> {
    let capabilities = card.capabilities();
    let status = card.status().map_err(Failure::other)?;
    let registers = card.registers().map_err(Failure::other)?;
    print(&format!(
        "card      {}\nABI       {}.{}\nbuild     {:016x}\ndata path {} bits\nstatus    {}\n\n{}",
        card.function().name(),
        capabilities.abi_major,
        capabilities.abi_minor,
        capabilities.build_hash,
        capabilities.data_bytes * 8,
        if status.ready() { "ready" } else { "not ready" },
        describe(&registers)
    ));
    Ok(())
}

fn describe(registers: &[RegisterValue]) -> String {
    let mut rows = vec![["offset", "register", "access", "value", "meaning"].map(str::to_owned).to_vec()];
    for RegisterValue { register, value } in registers {
        let access = match register.access {
            Access::Constant => "constant",
            Access::Live => "live",
            Access::ReadWrite => "read/write",
            Access::Command => "command",
        };
        let meaning = register.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        let value = match register.access {
            Access::Constant if register.name.starts_with("CAP_") => value.to_string(),
            _ => format!("{value:#010x}"),
        };
        rows.push(vec![
            format!("{:#05x}", register.offset),
            register.name.to_owned(),
            access.to_owned(),
            value,
            meaning,
        ]);
    }
    table(&rows)
}
