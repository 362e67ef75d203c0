//! The RDB format of Redis and Valkey: push parser, CRC64, counts. No I/O.
