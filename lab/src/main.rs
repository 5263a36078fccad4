//! `orglift-lab`; see the library.

fn main() -> std::process::ExitCode {
    lab::cli::main_from(std::env::args_os())
}
