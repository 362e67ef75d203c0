//! Both ends of PSYNC as state machines; one driver file with sockets.
