//! `docs/command-line.md` shows what the program says of itself. `make generate` rewrites it (`UPDATE_GOLDEN=1`); otherwise the
//! test compares.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

const BEGIN: &str = "<!-- made: weir ";
const END: &str = "<!-- end -->\n";

fn weir(arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_weir");
    let output = Command::new(program).args(arguments.split(' ')).env_clear().output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_page_shows_the_help_of_every_command() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/command-line.md");
    let page = fs::read_to_string(&path).unwrap();
    let mut parts = page.split(BEGIN);
    let mut made = parts.next().unwrap().to_owned();
    let mut shown = Vec::new();
    for part in parts {
        let (arguments, rest) = part.split_once(" -->\n").unwrap();
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("weir {arguments}: the block has no end"));
        let help = weir(arguments);
        let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        made +=
            &format!("{BEGIN}{arguments} -->\n```console\n$ weir {arguments}\n{}\n```\n{END}{after}", help.join("\n"));
        shown.extend(arguments.split(' ').next().map(str::to_owned));
    }
    let help = weir("--help");
    let commands = help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<&str> =
        commands.filter(|word| !word.is_empty() && !word.starts_with('-') && *word != "help").collect();
    assert!(commands.len() > 10 && commands == shown, "{commands:?} against {shown:?}");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), made, "make generate rewrites it");
}
