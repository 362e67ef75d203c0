//! Generates the gRPC code without `protoc`: protox compiles the definitions in pure Rust.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=api");
    let files = ["common", "enrolment", "session", "storage", "control"].map(|name| format!("urtext/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["api"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
