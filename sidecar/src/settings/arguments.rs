//! Parses an environment map and command-line arguments into a clap struct of strings.

use std::ffi::OsString;

use clap::builder::{OsStr, Resettable};
use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches};

use super::Environment;

/// Parses `arguments` (the program's name first), with `environment` for flags that are not given.
///
/// # Errors
///
/// clap's error for unknown flags or commands, or its help text.
pub fn parse<A: CommandFactory + FromArgMatches>(
    environment: &Environment,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<A, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let handle_help = |error: clap::Error| match error.kind() {
        // Rendered from the plain command, so that the help shows the defaults and never the environment's values.
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            without_process_environment(A::command()).try_get_matches_from(&arguments).err().unwrap_or(error)
        }
        _ => error,
    };
    let matches = with_defaults(A::command(), environment).try_get_matches_from(&arguments).map_err(handle_help)?;
    A::from_arg_matches(&matches)
}

/// Makes the environment's values the defaults of the flags of the same name.
fn with_defaults(command: Command, environment: &Environment) -> Command {
    let command = command.mut_args(|argument| {
        let name = argument.get_env().and_then(|name| name.to_str()).map(str::to_owned);
        let argument = argument.env(Resettable::Reset);
        match name.and_then(|name| environment.get(&name).map(str::to_owned)) {
            Some(value) => argument.default_value(OsStr::from(value)),
            None => argument,
        }
    });
    command.mut_subcommands(|subcommand| with_defaults(subcommand, environment))
}

fn without_process_environment(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(without_process_environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    #[command(name = "thing")]
    enum Command {
        Run(Run),
    }

    #[derive(clap::Args)]
    struct Run {
        /// How many to keep
        #[arg(long, env = "THING_KEEP", default_value = "3")]
        thing_keep: String,
        /// The password
        #[arg(long, env = "THING_PASSWORD")]
        thing_password: Option<String>,
    }

    fn run(environment: &[(&str, &str)], arguments: &[&str]) -> Result<Run, clap::Error> {
        let environment = environment.iter().copied().collect();
        let Command::Run(run) = parse(&environment, arguments.iter().map(OsString::from))?;
        Ok(run)
    }

    #[test]
    fn the_default_applies_if_nothing_is_set() {
        let run = run(&[], &["thing", "run"]).unwrap();
        assert_eq!((run.thing_keep.as_str(), run.thing_password), ("3", None));
    }

    #[test]
    fn the_given_map_is_read_and_a_flag_wins_over_it() {
        let environment = [("THING_KEEP", "5"), ("THING_PASSWORD", "x")];
        assert_eq!(run(&environment, &["thing", "run"]).unwrap().thing_keep, "5");
        assert_eq!(run(&environment, &["thing", "run", "--thing-keep=7"]).unwrap().thing_keep, "7");
    }

    #[test]
    fn help_names_the_variable_and_never_shows_its_value() {
        let help = run(&[("THING_PASSWORD", "hunter2")], &["thing", "run", "--help"]).err().unwrap().to_string();
        assert!(help.contains("[env: THING_PASSWORD]") && help.contains("[default: 3]"), "{help}");
        assert!(!help.contains("hunter2"), "{help}");
    }
}
