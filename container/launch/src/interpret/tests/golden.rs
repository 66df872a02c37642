//! What a whole script asks of the kernel, call by call.

use super::{CONTROL, perform, script, usual};

#[test]
fn a_whole_script_is_these_calls_and_no_others() {
    let steps = script::whole();
    let (outcome, kernel) = perform(&steps, CONTROL, usual);
    assert_eq!(outcome, Ok(()));
    let mut lines: Vec<(String, usize)> = Vec::new();
    for made in &kernel.made {
        let texts = made.texts.iter().fold(String::new(), |line, text| format!("{line} {text:?}"));
        let line = format!("{}{texts}", made.name);
        match lines.last_mut() {
            Some((last, count)) if *last == line => *count += 1,
            _ => lines.push((line, 1)),
        }
    }
    let counted =
        |(line, count): (String, usize)| if count == 1 { line + "\n" } else { format!("{line} × {count}\n") };
    keelbox_testkit::golden!("calls.txt", lines.into_iter().map(counted).collect::<String>());
    // Each of them is time that a launch takes. 31 give the signals their default actions, 62 drop capabilities.
    assert_eq!(kernel.made.len(), 243, "{:?}", kernel.names());
}
