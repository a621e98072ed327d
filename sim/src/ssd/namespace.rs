//! A namespace, and the controllers through which it is reached.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Backing, ConfigError, SsdConfig};

use super::media::Media;

/// Most controllers of one namespace: a device of the card has as many paths.
const CONTROLLERS_MAX: usize = 4;

/// The blocks that one SSD has alone, or that several controllers share.
pub(crate) struct Namespace {
    media: Mutex<Media>,
    /// Name of the SSD that brought it: identifies the subsystem.
    owner: String,
    /// Numbers of its controllers, ascending.
    controllers: Vec<usize>,
    /// Ends of commands that were recorded.
    ends: AtomicU64,
}

impl Namespace {
    /// The namespace of every SSD of a machine.
    pub(crate) fn of_all(ssds: &[SsdConfig]) -> Result<Vec<Arc<Self>>, ConfigError> {
        for ssd in ssds {
            ssd.check()?;
        }
        let owners: Result<Vec<usize>, ConfigError> = (0..ssds.len()).map(|ssd| owner(ssds, ssd)).collect();
        let owners = owners?;
        let mut namespaces: Vec<Arc<Self>> = Vec::new();
        let mut brought = vec![None; ssds.len()];
        for (ssd, &owner) in owners.iter().enumerate() {
            if owner == ssd {
                let controllers: Vec<usize> = (0..ssds.len()).filter(|&other| owners[other] == ssd).collect();
                if controllers.len() > CONTROLLERS_MAX {
                    return Err(wrong(&ssds[ssd], "its namespace has more than 4 controllers"));
                }
                brought[ssd] = Some(Arc::new(Self::new(&ssds[ssd], controllers)?));
            }
        }
        for &owner in &owners {
            namespaces.extend(brought[owner].clone());
        }
        Ok(namespaces)
    }

    fn new(config: &SsdConfig, controllers: Vec<usize>) -> Result<Self, ConfigError> {
        let bytes = config.blocks << config.block_shift();
        let media = match &config.backing {
            Backing::Memory => Media::memory(),
            Backing::File(path) => Media::file(path, bytes, config.durable).map_err(|source| {
                ConfigError::File { name: config.name.clone(), path: path.clone(), source }
            })?,
        };
        Ok(Self {
            media: Mutex::new(media),
            owner: config.name.clone(),
            controllers,
            ends: AtomicU64::new(0),
        })
    }

    /// What names the subsystem and the namespace, whichever controller is asked.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// The controllers that reach it.
    pub(crate) fn controllers(&self) -> &[usize] {
        &self.controllers
    }

    /// Whether it has several controllers.
    pub(crate) fn is_shared(&self) -> bool {
        self.controllers.len() > 1
    }

    /// Number of the next end of a command that is recorded.
    pub(crate) fn next_end(&self) -> u64 {
        self.ends.fetch_add(1, Ordering::Relaxed)
    }

    fn media(&self) -> MutexGuard<'_, Media> {
        self.media.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.media().read(offset, into)
    }

    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.media().write(offset, from)
    }

    pub(crate) fn clear(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.media().clear(offset, bytes)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.media().sync()
    }
}

fn wrong(config: &SsdConfig, what: &str) -> ConfigError {
    ConfigError::Ssd { name: config.name.clone(), what: what.into() }
}

/// Number of the SSD that brings the namespace of `ssd`.
fn owner(ssds: &[SsdConfig], ssd: usize) -> Result<usize, ConfigError> {
    let config = &ssds[ssd];
    let Some(name) = &config.namespace_of else { return Ok(ssd) };
    let Some(owner) = ssds.iter().position(|other| other.name == *name) else {
        return Err(wrong(config, "the SSD whose namespace it shares is missing"));
    };
    let brings = &ssds[owner];
    if brings.namespace_of.is_some() {
        return Err(wrong(config, "the SSD whose namespace it shares has none of its own"));
    }
    if (brings.block_size, brings.blocks) != (config.block_size, config.blocks) {
        return Err(wrong(config, "the namespace it shares has other blocks"));
    }
    if config.backing != Backing::Memory {
        return Err(wrong(config, "it shares a namespace and has a file of its own"));
    }
    Ok(owner)
}
