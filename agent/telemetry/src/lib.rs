//! Windows of sketches, and the spool that holds them while offline
