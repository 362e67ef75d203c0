//! Who is on the other end: CA, join tokens, certificates, rustls configurations.
