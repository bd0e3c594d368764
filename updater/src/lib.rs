//! Fetches, verifies and installs signed model bundles
