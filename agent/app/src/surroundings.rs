//! The clock on the device's wall, and whether its link is paid by the byte.

use crate::config::MeteredLink;
use chrono::{Datelike as _, Local, Timelike as _};
use std::path::Path;
use whimbrel_updater::policy::{LocalTime, Surroundings};

/// While this file is there, a link of `updates.metered = "auto"` counts as metered.
pub(crate) const METERED_FILE: &str = "/run/whimbrel/metered";

/// The device itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Device {
    pub(crate) link: MeteredLink,
}

impl Surroundings for Device {
    fn local_time(&self) -> LocalTime {
        let now = Local::now();
        // All three are far below 256.
        let small = |n: u32| u8::try_from(n).unwrap_or_default();
        LocalTime::new(small(now.weekday().num_days_from_monday()), small(now.hour()), small(now.minute()))
    }

    fn is_metered(&self) -> bool {
        match self.link {
            MeteredLink::Fixed(metered) => metered,
            MeteredLink::Auto => Path::new(METERED_FILE).exists(),
        }
    }
}
