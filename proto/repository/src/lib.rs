//! The stored format: layout, sealing, manifests, stores. Knows nothing of Redis.
