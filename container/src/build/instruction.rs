//! What a build consists of: stages of instructions. Values are as the file has them, with variables and quotes, until a step
//! is done. Leaves out reading and doing.

use keelbox_image_spec::Image;

/// Where a stage begins.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    Scratch,
    Image(Image),
    /// A name with variables: of an earlier stage or of an image. With the platform that it must have.
    Named {
        name: String,
        platform: Option<String>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) base: Base,
    pub(crate) name: Option<String>,
    /// The line of the file; 0 for what no file says.
    pub(crate) number: usize,
    pub(crate) lines: Vec<Line>,
}

impl Stage {
    pub(crate) fn new(base: Base, name: Option<String>, number: usize) -> Self {
        Self { base, name, number, lines: Vec::new() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    /// For people, and for the history of the image.
    pub(crate) text: String,
    pub(crate) instruction: Instruction,
}

/// A command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Command {
    Shell(String),
    Exec(Vec<String>),
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Copy {
    pub(crate) sources: Vec<String>,
    pub(crate) target: String,
    /// A stage or an image instead of the context.
    pub(crate) from: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) mode: Option<u32>,
    /// Whether archives are unpacked.
    pub(crate) unpacks: bool,
    /// Files whose content the build file has itself: name and content.
    pub(crate) documents: Vec<(String, String)>,
}

impl Copy {
    pub(crate) fn new(sources: Vec<String>, target: String) -> Self {
        Self { sources, target, ..Self::default() }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Instruction {
    Run(Command),
    Copy(Copy),
    Env(Vec<(String, String)>),
    Label(Vec<(String, String)>),
    Arg(Vec<(String, Option<String>)>),
    Workdir(String),
    User(String),
    Entrypoint(Command),
    Cmd(Command),
    Expose(Vec<String>),
    Volume(Vec<String>),
    StopSignal(String),
    Shell(Vec<String>),
    Author(String),
}
