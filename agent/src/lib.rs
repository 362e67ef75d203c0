//! The agent beside each server: observe, capture, restore.
