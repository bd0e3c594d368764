//! How many answers to gets wait for devices, so that nobody can have the server hold more than it has room for.
//!
//! An answer counts from before its file is read until the broker has written it to the device's connection, or thrown it
//! away. The broker is not trusted to tell of every one: what it says nothing about counts no longer than it could still
//! be delivered.

use super::Address;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use whimbrel_wire::transfer::WINDOW_ITEMS;

/// Most answers that wait for all devices together: a quarter of a GiB, were each as large as can be.
const TOGETHER_MAX: usize = 1024;
/// How long an answer may wait for its device.
pub(super) const EXPIRY: Duration = Duration::from_secs(60);

/// Whether an answer may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It counts from now on.
    Reserved,
    /// As many as one device may wait for do so.
    DeviceFull,
    /// As many as the server has room for wait.
    ServerFull,
}

/// When the answers that wait began to, by device.
#[derive(Debug, Default)]
pub(super) struct Window(Mutex<HashMap<Address, VecDeque<Instant>>>);

impl Window {
    /// Counts one more answer for a device, if there is room.
    pub(super) fn reserve(&self, who: &Address, now: Instant) -> Room {
        let mut waiting = self.lock();
        if let Some(own) = waiting.get_mut(who) {
            expire(own, now);
            if own.len() >= WINDOW_ITEMS {
                return Room::DeviceFull;
            }
        }
        if together(&waiting) >= TOGETHER_MAX {
            waiting.retain(|_, own| {
                expire(own, now);
                !own.is_empty()
            });
            if together(&waiting) >= TOGETHER_MAX {
                return Room::ServerFull;
            }
        }
        waiting.entry(who.clone()).or_default().push_back(now);
        Room::Reserved
    }

    /// An answer left, or will never come to be. Which one makes no difference: the oldest is taken.
    pub(super) fn release(&self, who: &Address) {
        let mut waiting = self.lock();
        if let Some(own) = waiting.get_mut(who) {
            own.pop_front();
            if own.is_empty() {
                waiting.remove(who);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, VecDeque<Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn together(waiting: &HashMap<Address, VecDeque<Instant>>) -> usize {
    waiting.values().map(VecDeque::len).sum()
}

fn expire(own: &mut VecDeque<Instant>, now: Instant) {
    while own.front().is_some_and(|since| now.saturating_duration_since(*since) >= EXPIRY) {
        own.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(n: usize) -> Address {
        Address { tenant: "t".parse().expect("valid"), device: format!("d{n}").parse().expect("valid") }
    }

    #[test]
    fn a_device_has_no_more_than_its_window_until_answers_leave_or_expire() {
        let (window, now) = (Window::default(), Instant::now());
        for _ in 0..WINDOW_ITEMS {
            assert_eq!(window.reserve(&device(1), now), Room::Reserved);
        }
        assert_eq!(window.reserve(&device(1), now), Room::DeviceFull);
        assert_eq!(window.reserve(&device(2), now), Room::Reserved, "another has its own");
        window.release(&device(1));
        assert_eq!(window.reserve(&device(1), now), Room::Reserved);
        assert_eq!(window.reserve(&device(1), now + EXPIRY - Duration::from_secs(1)), Room::DeviceFull);
        assert_eq!(window.reserve(&device(1), now + EXPIRY), Room::Reserved);
        window.release(&device(3));
    }

    #[test]
    fn all_devices_together_have_no_more_than_the_server_has_room_for() {
        let (window, now) = (Window::default(), Instant::now());
        for n in 0..TOGETHER_MAX {
            assert_eq!(window.reserve(&device(n), now), Room::Reserved);
        }
        assert_eq!(window.reserve(&device(TOGETHER_MAX), now), Room::ServerFull);
        window.release(&device(0));
        assert_eq!(window.reserve(&device(TOGETHER_MAX), now), Room::Reserved);
        assert_eq!(window.reserve(&device(0), now), Room::ServerFull);
        assert_eq!(window.reserve(&device(0), now + EXPIRY), Room::Reserved);
        assert_eq!(window.lock().len(), 1, "what expired is forgotten");
    }
}
