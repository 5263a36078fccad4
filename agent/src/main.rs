fn main() -> std::process::ExitCode {
    agent::cli::main_from(std::env::args_os())
}
