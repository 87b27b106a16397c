//! Compiles the `.proto` files with protox, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["taskq/v1/jobs.proto", "taskq/v1/workers.proto", "taskq/v1/admin.proto"];
    let descriptors = protox::compile(files, ["."])?;
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
