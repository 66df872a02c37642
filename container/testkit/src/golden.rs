//! Golden files: text that is compared with a file kept in the repository.

use std::path::Path;
use std::{env, fs};

/// Compares a text with the file of that name below `tests/golden` of the calling crate.
///
/// `KEELBOX_BLESS=1` in the environment writes the file instead.
///
/// ```no_run
/// let plan = "1 mount proc on /proc\n";
/// keelbox_testkit::golden!("minimal.plan", plan);
/// ```
#[macro_export]
macro_rules! golden {
    ($path:expr, $text:expr $(,)?) => {
        $crate::compare_golden(env!("CARGO_MANIFEST_DIR"), $path.as_ref(), $text.as_ref())
    };
}

/// What [`golden!`](crate::golden) calls, with the directory of the calling crate.
///
/// # Panics
///
/// When the file says something else, or cannot be read or written.
pub fn compare_golden(crate_directory: &str, name: &str, text: &str) {
    let path = Path::new(crate_directory).join("tests/golden").join(name);
    if env::var_os("KEELBOX_BLESS").is_some_and(|value| value == "1") {
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        return written.unwrap_or_else(|error| panic!("cannot write golden file {}: {error}", path.display()));
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("cannot read golden file {}: {error} (KEELBOX_BLESS=1 writes it)", path.display())
    });
    if let Some(difference) = first_difference(&golden, text) {
        panic!("not as in golden file {} (KEELBOX_BLESS=1 rewrites it)\n{difference}\nall:\n{text}", path.display());
    }
}

fn first_difference(golden: &str, text: &str) -> Option<String> {
    if golden == text {
        return None;
    }
    let (mut expected, mut found) = (golden.split('\n'), text.split('\n'));
    for number in 1.. {
        let (left, right) = (expected.next(), found.next());
        if left != right {
            let show = |line: Option<&str>| line.map_or("(no line)".to_owned(), |line| format!("{line:?}"));
            return Some(format!("line {number}\n  golden: {}\n  now:    {}", show(left), show(right)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_passes() {
        crate::golden!("example.txt", "one\ntwo\n");
    }

    #[test]
    #[should_panic(expected = "line 2\n  golden: \"two\"\n  now:    \"three\"")]
    fn another_text_fails() {
        crate::golden!("example.txt", "one\nthree\n");
    }

    #[test]
    fn a_missing_end_is_a_difference() {
        let difference = first_difference("one\ntwo", "one").expect("they differ");
        assert_eq!(difference, "line 2\n  golden: \"two\"\n  now:    (no line)");
    }

    #[test]
    fn blessing_writes_the_file() {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let path = directory.path().to_str().expect("a temporary path is text");
        let run = || compare_golden(path, "deep/new.txt", "text\n");
        assert!(std::panic::catch_unwind(run).is_err());
        let status = std::process::Command::new(env::current_exe().expect("a running program has a path"))
            .args(["--exact", "golden::tests::bless_in_child"])
            .env("KEELBOX_BLESS", "1")
            .env("GOLDEN_DIRECTORY", path)
            .output()
            .expect("the test program starts");
        assert!(status.status.success());
        run();
    }

    #[test]
    fn bless_in_child() {
        if let Ok(path) = env::var("GOLDEN_DIRECTORY") {
            compare_golden(&path, "deep/new.txt", "text\n");
        }
    }
}
