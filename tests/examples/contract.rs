//! Writes every file that is made of the code, and says which have changed: `make contract`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is what this program is for")]

use std::{fs, io, process::ExitCode};

use system_tests::{files, generated};

fn main() -> io::Result<ExitCode> {
    let generated = match generated::all() {
        Ok(generated) => generated,
        Err(unreadable) => {
            eprintln!("Nothing is written:\n{}", unreadable.join("\n"));
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut written = 0;
    for (path, text) in &generated {
        let file = files::at(path);
        if fs::read_to_string(&file).is_ok_and(|standing| standing == *text) {
            continue;
        }
        fs::write(&file, text)?;
        println!("{path}");
        written += 1;
    }
    println!("{written} of {} generated files rewritten.", generated.len());
    Ok(ExitCode::SUCCESS)
}
