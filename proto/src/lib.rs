//! gRPC messages and services, and their hand-written model.
