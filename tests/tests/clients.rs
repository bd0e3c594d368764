//! The example clients, as an app developer runs them, against an agent that serves the example model.

use serde_json::Value;
use std::{env, ffi::OsString, fs, path::Path};
use whimbrel_tests::{Agent, binary, digit, examples, images, pixels, run};

/// Images that each client is asked about: enough that one which guesses fails.
const COUNT: usize = 40;
/// The model is right on 98.9 % of all of them.
const RIGHT_MIN: usize = 37;

fn agent(dir: &Path) -> Agent {
    Agent::alone(dir, &examples().join("digits/v2"))
}

fn args(list: &[&str]) -> Vec<OsString> {
    list.iter().map(OsString::from).collect()
}

#[test]
fn python_with_the_public_triton_client() {
    let python =
        env::var_os("WHIMBREL_PYTHON").expect("`cargo xtask test` makes the environment and names it here");
    let dir = tempfile::tempdir().expect("a folder for the test");
    let agent = agent(dir.path());
    let script = examples().join("client-python/classify.py").display().to_string();
    let ask = |more: &[&str]| {
        let mut all = args(&[&script, "--url", &agent.http, "--json"]);
        all.extend(args(more));
        run(Path::new(&python), all)
    };
    for mode in ["json", "binary"] {
        let answer: Value =
            serde_json::from_str(&ask(&["--mode", mode, "--count", &COUNT.to_string()]).ok()).expect("JSON");
        let results = answer["results"].as_array().expect("a list");
        let right = (0..COUNT).filter(|&i| results[i]["label"] == digit(i)).count();
        assert!(right >= RIGHT_MIN, "{mode}: {right} of {COUNT} right");
        assert!(results.iter().all(|r| r["model_version"] == "2.0.0"), "{mode}: {answer}");
    }
    let refused = ask(&["--model", "nobody"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
}

#[test]
fn rust_over_tcp_and_the_unix_socket() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let agent = agent(dir.path());
    let file = images().display().to_string();
    for address in [agent.http.clone(), format!("unix:{}", agent.socket.display())] {
        let is_right = |index: usize| {
            let index_text = index.to_string();
            let asked = args(&["--url", &address, "--images", &file, "--index", &index_text, "--json"]);
            let answer: Value =
                serde_json::from_str(&run(&binary("whimbrel-example-client"), asked).ok()).expect("JSON");
            answer["label"] == digit(index)
        };
        let right = (0..COUNT).filter(|&i| is_right(i)).count();
        assert!(right >= RIGHT_MIN, "{address}: {right} of {COUNT} right");
    }
}

#[test]
fn c_over_the_unix_socket() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let agent = agent(dir.path());
    // Built in a copy, so that the checkout stays clean; its own test finds the image beside it, as in the checkout.
    let (source, copy) = (examples().join("client-c"), dir.path().join("client-c"));
    for folder in [&copy, &dir.path().join("digits")] {
        fs::create_dir(folder).expect("made");
    }
    for entry in fs::read_dir(&source).expect("the client is there") {
        let entry = entry.expect("readable");
        fs::copy(entry.path(), copy.join(entry.file_name())).expect("copied");
    }
    fs::copy(examples().join("digits/image.txt"), dir.path().join("digits/image.txt")).expect("copied");
    let copy_text = copy.display().to_string();
    drop(run(Path::new("make"), args(&["-C", &copy_text, "test"])).ok());

    let (socket, program) = (agent.socket.display().to_string(), copy.join("classify"));
    let image = dir.path().join("image.txt");
    let is_right = |index: usize| {
        let text: String = pixels(index).iter().map(|p| format!("{p} ")).collect();
        fs::write(&image, text).expect("written");
        let answer = run(&program, args(&["-s", &socket, &image.display().to_string()])).ok();
        answer.lines().next() == Some(&format!("label: {}", digit(index)))
    };
    let right = (0..COUNT).filter(|&i| is_right(i)).count();
    assert!(right >= RIGHT_MIN, "{right} of {COUNT} right");

    let nobody = dir.path().join("nobody.sock").display().to_string();
    let failed = run(&program, args(&["-s", &nobody, &image.display().to_string()]));
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(failed.stderr.starts_with("error: "), "{}", failed.stderr);
}
