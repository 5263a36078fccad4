//! Programs of the machine.

use std::process::{Command, Stdio};

/// Runs a line of the shell. An error is what it said.
pub fn sh(line: &str) -> Result<String, String> {
    let output = Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(said);
    }
    let wrong = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}\n{said}\n{wrong}", output.status))
}
