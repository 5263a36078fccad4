//! `orglift-hub`

fn main() -> std::process::ExitCode {
    hub::cli::main_from(std::env::args_os())
}
