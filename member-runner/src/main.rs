fn main() -> std::process::ExitCode {
    member_runner::cli::main_from(std::env::args_os())
}
