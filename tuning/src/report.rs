//! How `voxhall doctor` shows its findings.

use std::io::{self, Write};

use crate::check::{Check, Standing};

/// Writes one line per check, and under each that is not ok its reason and the command that mends it; then a summary.
///
/// # Errors
/// Whatever `out` returns.
pub fn print(checks: &[Check], out: &mut impl Write, colour: bool) -> io::Result<()> {
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    for check in checks {
        let (paint, reset) = if colour { (paint(check.standing), "\x1b[0m") } else { ("", "") };
        let standing = check.standing.as_str();
        write!(out, "{paint}{standing:<11}{reset}  {:<width$}  {}", check.name, check.found)?;
        if check.standing == Standing::Ok {
            writeln!(out)?;
            continue;
        }
        writeln!(out, "; wanted: {}", check.wanted)?;
        writeln!(out, "{:13}{}", "", check.why)?;
        if let Some(remedy) = &check.remedy {
            writeln!(out, "{:13}$ {remedy}", "")?;
        }
    }
    let count = |standing| checks.iter().filter(|c| c.standing == standing).count();
    writeln!(
        out,
        "\n{} ok, {} short, {} failed",
        count(Standing::Ok),
        count(Standing::FallsShort),
        count(Standing::Fails)
    )
}

fn paint(standing: Standing) -> &'static str {
    match standing {
        Standing::Ok => "\x1b[32m",
        Standing::FallsShort => "\x1b[33m",
        Standing::Fails => "\x1b[31m",
    }
}
