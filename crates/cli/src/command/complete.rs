//! `larder completions` and `larder man`: what shells and `man` know of the command.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::exit::{Exit, Outcome};
use crate::printer::Printer;

pub(super) fn completions(shell: Shell, printer: &mut Printer) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "larder", &mut script);
    printer.raw(&script)?;
    Ok(Exit::Done)
}

pub(super) fn manual(printer: &mut Printer) -> Outcome {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
    let mut command = Arguments::command();
    command.build();
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let man = clap_mangen::Man::new(subcommand.clone());
        page.extend(format!(".SH COMMAND {}\n", subcommand.get_name().to_uppercase()).bytes());
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    printer.raw(&page)?;
    Ok(Exit::Done)
}
