//! The command `onebit`. Results go to stdout, everything else to stderr.
//!
//! Exit codes: 0 done, 1 the job failed, 2 wrong usage.
#![forbid(unsafe_code)]

mod commands;
mod diagnosis;
mod limits;
mod network;
mod text;
mod timing;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

/// Runs 1-bit and k-bit neural networks, exactly and fast.
#[derive(Parser)]
#[command(name = "onebit", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

const EXAMPLES: &str = "\
Examples:
  onebit demo
  onebit convert binarized_mnist_64bit-0001.params --std 255 -o network.onebit
  onebit run network.onebit photo.jpg
  onebit eval network.onebit --data mnist/";

#[derive(Subcommand)]
enum Command {
    Demo(commands::demo::Demo),
    Run(commands::run::Run),
    Eval(commands::eval::Eval),
    Info(commands::info::Info),
    Bench(commands::bench::Bench),
    Convert(Box<commands::convert::Convert>),
    Export(commands::export::Export),
    Codegen(commands::codegen::Codegen),
    Train(Box<commands::train::Train>),
    Search(Box<commands::search::Search>),
}

/// Options of every command.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Threads [default: one for each core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Instruction set of the kernels: avx512, avx512bw, avx2, popcnt, neon, simd128, scalar [default: ONEBIT_ISA, else the best of this CPU]
    #[arg(long, global = true, value_name = "NAME")]
    isa: Option<String>,
    /// Prints one JSON object
    #[arg(long, global = true)]
    json: bool,
}

impl Global {
    /// Options for a session with the threads asked for.
    fn session(&self) -> onebit::Options {
        onebit::Options { threads: self.threads.map_or(0, usize::from), isa: self.isa.clone() }
    }
    /// The threads of [`Global::session`].
    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        self.threads.map_or_else(cores, usize::from)
    }
    /// Options for a session with one thread.
    fn one_thread(&self) -> onebit::Options {
        onebit::Options { threads: 1, isa: self.isa.clone() }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if text::is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            // One sentence on one line, whatever a library has put into its message.
            let message = format!("{e:#}").split_whitespace().collect::<Vec<_>>().join(" ");
            text::note(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    if let Some(n) = cli.global.threads {
        rayon::ThreadPoolBuilder::new().num_threads(n.into()).build_global()?;
    }
    match &cli.command {
        Command::Demo(c) => c.run(&cli.global),
        Command::Run(c) => c.run(&cli.global),
        Command::Eval(c) => c.run(&cli.global),
        Command::Info(c) => c.run(&cli.global),
        Command::Bench(c) => c.run(&cli.global),
        Command::Convert(c) => c.run(&cli.global),
        Command::Export(c) => c.run(&cli.global),
        Command::Codegen(c) => c.run(&cli.global),
        Command::Train(c) => c.run(&cli.global),
        Command::Search(c) => c.run(&cli.global),
    }
}
