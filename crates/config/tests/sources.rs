//! Which configuration is taken.

use std::path::Path;

use sentinel_config::{load, locate};

#[test]
fn the_one_that_is_named_wins_then_the_environment_then_the_folder_then_the_built_in() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("# {name}\n")).unwrap();
        path
    };
    let nothing = locate(None, None, dir.path()).unwrap();
    assert_eq!((nothing.name.as_path(), nothing.base_dir), (Path::new("built-in/sentinel.yaml"), None));

    let (named, other) = (write("named.yaml"), write("other.yaml"));
    write("config.yaml");
    assert_eq!(locate(None, None, dir.path()).unwrap().name, Path::new("config.yaml"));
    assert_eq!(locate(Some(Path::new("named.yaml")), None, dir.path()).unwrap().text, "# named.yaml\n");
    let text = |explicit: Option<&Path>, env: Option<&str>| locate(explicit, env, dir.path()).unwrap().text;
    assert_eq!(text(None, None), "# config.yaml\n");
    assert_eq!(text(None, Some("")), "# config.yaml\n");
    assert_eq!(text(None, other.to_str()), "# other.yaml\n");
    assert_eq!(text(Some(&named), other.to_str()), "# named.yaml\n");
}

#[test]
fn a_named_file_that_is_not_there_is_an_error_and_nothing_else_is_taken_instead() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.yaml"), "").unwrap();
    let missing = dir.path().join("missing.yaml");
    let told = locate(Some(&missing), None, dir.path()).unwrap_err().to_string();
    assert!(told.contains("missing.yaml"), "{told}");
    assert!(locate(None, missing.to_str(), dir.path()).is_err());
    std::fs::write(dir.path().join("config.yaml"), b"\xff\xfe").unwrap();
    assert!(locate(None, None, dir.path()).is_err(), "what is there and unreadable is not passed over");
}

#[test]
fn a_prompt_is_found_beside_its_file_wherever_that_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("p")).unwrap();
    std::fs::write(dir.path().join("p/look.txt"), "Look closely.").unwrap();
    std::fs::write(dir.path().join("p/empty.md"), " \n").unwrap();
    let card = |prompt: &str| {
        let text = format!("incident-cards: [{{name: c, resource: X, prompt: '{prompt}'}}]");
        std::fs::write(dir.path().join("config.yaml"), text).unwrap();
        let source = locate(None, None, dir.path()).unwrap();
        load(&source, &|_| None).map(|l| l.settings.cards[0].prompt.text.clone())
    };
    assert_eq!(card("p/look.txt").unwrap(), "Look closely.");
    assert_eq!(card("Look at p/look.txt closely").unwrap(), "Look at p/look.txt closely");
    assert!(card("p/empty.md").unwrap_err().to_string().contains("is empty"));
    assert!(card("p/absent.j2").unwrap_err().to_string().contains("cannot be read"));
}
