//! Programs that make images.

use crate::doctor::host::Host;
use crate::doctor::{Check, advice};
use crate::process;

pub(super) fn checks(host: &Host) -> Vec<Check> {
    let mmdebstrap = tool("mmdebstrap", "mmdebstrap", "makes images", advice::mmdebstrap(host));
    let apt = tool("apt", "apt-get", "finds and downloads what images are made of", advice::apt(host));
    vec![mmdebstrap, apt, pip(host)]
}

fn tool(name: &'static str, program: &str, purpose: &'static str, mend: Vec<String>) -> Check {
    match process::find(program) {
        Some(path) => Check::works(name, purpose, path.display().to_string()),
        None => Check::missing(name, purpose, "not installed", mend),
    }
}

fn pip(host: &Host) -> Check {
    const PURPOSE: &str = "downloads Portage for images";
    match process::run(process::command("python3").args(["-m", "pip", "--version"])) {
        Ok(output) => Check::works("pip", PURPOSE, String::from_utf8_lossy(&output.stdout).trim().to_string()),
        Err(_) => Check::missing("pip", PURPOSE, "not installed", advice::pip(host)),
    }
}
