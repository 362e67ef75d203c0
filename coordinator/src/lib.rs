//! The coordinator: sessions, tasks, catalog, gRPC services and the command line `urtext`.
