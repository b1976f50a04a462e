// SPDX-License-Identifier: GPL-2.0-only
//! `srb-manual FOLDER`: writes the manual pages and completion scripts of all programs there, from
//! the definitions of their command lines. It is run when packages are built.

#[allow(dead_code, reason = "srbctl's words, of which only the definition is needed here")]
#[path = "../../srbctl/src/cli.rs"]
mod srbctl;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

/// A program, and the section of the manual that it belongs to.
struct Program {
    command: Command,
    section: &'static str,
}

fn programs() -> [Program; 3] {
    [
        Program { command: srb_agent::process::config::Arguments::command(), section: "8" },
        Program { command: srbctl::Cli::command(), section: "1" },
        Program { command: srb_playground::command_line::Options::command(), section: "1" },
    ]
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: srb-manual FOLDER");
        return ExitCode::from(2);
    };
    match write_all(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("srb-manual: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(folder: &Path) -> io::Result<()> {
    let pages = folder.join("man");
    fs::create_dir_all(&pages)?;
    for Program { mut command, section } in programs() {
        command.build();
        let name = command.get_name().to_owned();
        write_pages(&pages, command.clone(), section)?;
        for (shell, file) in [
            (Shell::Bash, format!("bash/{name}")),
            (Shell::Zsh, format!("zsh/_{name}")),
            (Shell::Fish, format!("fish/{name}.fish")),
        ] {
            let path = folder.join(file);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            clap_complete::generate(shell, &mut command, &name, &mut File::create(path)?);
        }
    }
    Ok(())
}

/// The page of a command, and those of its subcommands.
fn write_pages(folder: &Path, command: Command, section: &str) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        if sub.get_name() != "help" {
            write_pages(folder, sub.clone(), section)?;
        }
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.name(leak(&name))).section(section).render(&mut page)?;
    File::create(folder.join(format!("{name}.{section}")))?.write_all(&page)
}

/// A command's name is static; the program ends soon.
fn leak(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every option and argument that is shown has a sentence, in help and manual alike.
    fn undescribed(command: &Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        if command.get_about().is_none() && command.get_long_about().is_none() {
            found.push(path.clone());
        }
        for argument in command.get_arguments().filter(|it| !it.is_hide_set()) {
            if argument.get_help().is_none() && argument.get_long_help().is_none() {
                found.push(format!("{path} {}", argument.get_id()));
            }
        }
        command.get_subcommands().for_each(|sub| undescribed(sub, &path, found));
    }

    #[test]
    fn everything_is_described() {
        let mut found = Vec::new();
        for Program { mut command, .. } in programs() {
            command.build();
            undescribed(&command, "", &mut found);
        }
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn each_program_and_subcommand_has_a_page_and_each_shell_its_words() {
        let folder = tempfile::tempdir().expect("a folder");
        write_all(folder.path()).expect("written");
        for (file, text) in [
            ("man/srb-agent.8", "\\-\\-takeover"),
            ("man/srbctl.1", "Exit status:"),
            ("man/srbctl-volume-create.1", "srbctl volume create"),
            ("man/srbctl-boot-attach.1", "srbtab"),
            ("man/srb-playground.1", "\\-\\-datapath"),
            ("bash/srbctl", "older-than"),
            ("zsh/_srb-agent", "--takeover"),
            ("fish/srb-playground.fish", "datapath"),
        ] {
            let page = fs::read_to_string(folder.path().join(file));
            let page = page.unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(page.contains(text), "{file}: {page}");
        }
    }
}
