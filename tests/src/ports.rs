//! Free ports on loopback that stay ours, also while a server restarts.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    sync::Mutex,
};

/// Below the kernel's own range for outgoing connections (32768 and up), so that no client socket takes
/// a port between two starts of a server.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Every lock that this process holds: a port is ours until the test process ends.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port on 127.0.0.1 that nothing listens on, and that no other test of this machine will be given.
pub fn free_port() -> u16 {
    free_port_at(Ipv4Addr::LOCALHOST)
}

/// [`free_port`], on another loopback address as well.
pub fn free_port_at(address: Ipv4Addr) -> u16 {
    let locks = std::env::temp_dir().join("urtext-test-ports");
    fs::create_dir_all(&locks).expect("make the folder of port locks");
    let mut entropy = [0; 2];
    getrandom::fill(&mut entropy).expect("entropy for a port number");
    let start = u16::from_le_bytes(entropy) % RANGE.len() as u16;
    for step in 0..RANGE.len() as u16 {
        let port = RANGE.start + (start + step) % RANGE.len() as u16;
        let lock = File::create(locks.join(port.to_string())).expect("make a port lock");
        let is_free = || [Ipv4Addr::LOCALHOST, address].iter().all(|ip| TcpListener::bind((*ip, port)).is_ok());
        if lock.try_lock().is_ok() && is_free() {
            HELD.lock().expect("no holder of this lock panics").push(lock);
            return port;
        }
    }
    panic!("no free port in {RANGE:?}");
}
