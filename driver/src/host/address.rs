//! Where a PCI function is: domain, bus, device, function.

use std::fmt;
use std::str::FromStr;

/// A PCI function's address. Text without a domain is of domain 0, as everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// Text that is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no PCI address: they look like 0000:65:00.0 or 65:00.0")]
pub struct AddressError(String);

impl FromStr for PciAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).ok_or_else(|| AddressError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let (device, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next().unwrap_or("0");
    if parts.next().is_some() {
        return None;
    }
    let digits = |part: &str, most: usize| {
        let hex = !part.is_empty() && part.len() <= most && part.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u32::from_str_radix(part, 16).ok()).flatten()
    };
    let (device, function) = (digits(device, 2)?, digits(function, 1)?);
    (device < 32 && function < 8).then_some(())?;
    Some(PciAddress {
        domain: digits(domain, 8)?,
        bus: digits(bus, 2)? as u8,
        device: device as u8,
        function: function as u8,
    })
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.device, self.function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_domain() {
        for (text, shown) in [
            ("0000:65:00.0", "0000:65:00.0"),
            ("65:1f.7", "0000:65:1f.7"),
            ("10000:E1:00.0", "10000:e1:00.0"),
            ("1:2.3", "0000:01:02.3"),
        ] {
            assert_eq!(text.parse::<PciAddress>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "65",
            "65:00",
            "65:00.8",
            "65:20.0",
            "0:0:65:00.0",
            "65:00.0.0",
            "+5:00.0",
            "sim:card",
            "::.",
            "../x",
        ] {
            let error = text.parse::<PciAddress>().expect_err(text).to_string();
            assert!(error.contains("is no PCI address"), "{error}");
        }
    }
}
