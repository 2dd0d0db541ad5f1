//! Kills and stops a process before every single instruction of an operation of `forkmap`, and looks
//! whether the others go on and what they find. See `bench` for how, and `--help` for the options.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod bench;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    bench::cli::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() -> std::process::ExitCode {
    eprintln!("the crash bench is for Linux on x86-64 only");
    std::process::ExitCode::FAILURE
}
