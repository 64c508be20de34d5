//! The embedded store and the folder that it owns.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_core::budget::{Amount, Entered, Entry, Limits, Reservation, Scope};
use sentinel_core::incident::{Child, ChildName, Gen, Head, State};
use sentinel_core::ports::{Appended, Created, IncidentStore};
use sentinel_local::{Backend, LocalError};
use sentinel_testkit::builders;

fn head(n: u32) -> Head {
    Head { generation: Gen(1_000), ..builders::head(&format!("{n:064x}")) }
}

async fn fill(store: &dyn IncidentStore) -> (Head, Child) {
    let (head, body) = (head(1), "{}".to_owned());
    let child = Child { generation: head.generation, name: ChildName::Report, body };
    assert_eq!(store.create(&head).await.unwrap(), Created::New);
    assert_eq!(store.append(&head.id, &child).await.unwrap(), Appended::Written);
    (head, child)
}

#[tokio::test]
async fn a_store_that_is_opened_again_holds_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("a/b");
    let (head, child) = fill(&*Backend::open(&data).await.unwrap().store()).await;
    let again = Backend::open(&data).await.unwrap();
    assert_eq!(again.store().load(&head.id).await.unwrap().as_ref(), Some(&head));
    assert_eq!(again.store().children(&head.id, head.generation).await.unwrap(), [child]);
    assert_eq!(again.store().recent(10).await.unwrap(), [head]);
}

#[tokio::test]
async fn a_store_in_memory_begins_empty_and_works_like_the_other() {
    let backend = Backend::memory().await.unwrap();
    let (head, child) = fill(&*backend.store()).await;
    assert_eq!(backend.store().children(&head.id, head.generation).await.unwrap(), [child]);
    backend.announce("http://127.0.0.1:1").unwrap();
    let another = Backend::memory().await.unwrap();
    assert_eq!(another.store().recent(10).await.unwrap(), []);
}

#[tokio::test]
async fn a_folder_that_is_held_names_its_holder_until_every_store_of_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let first = Backend::open(folder.path()).await.unwrap();
    let held = Backend::open(folder.path()).await.unwrap_err();
    let me = std::process::id();
    assert!(matches!(&held, LocalError::Held { pid: Some(pid), url: None, .. } if *pid == me), "{held:?}");
    assert!(held.is_retryable());

    first.announce("http://127.0.0.1:8080").unwrap();
    let held = Backend::open(folder.path()).await.unwrap_err().to_string();
    let shown = folder.path().display();
    assert_eq!(
        held,
        format!(
            "the data folder {shown} is held by another process (pid {me}), which answers at http://127.0.0.1:8080"
        )
    );

    let store = first.store();
    drop(first);
    assert!(matches!(Backend::open(folder.path()).await, Err(LocalError::Held { .. })));
    drop(store);
    drop(Backend::open(folder.path()).await.unwrap());
    assert!(!folder.path().join("service.json").exists());
}

#[tokio::test]
async fn what_a_killed_owner_left_behind_does_not_keep_the_next_one_out() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sentinel.lock"), "").unwrap();
    fs::write(folder.path().join("service.json"), r#"{"pid":1,"url":"http://127.0.0.1:9"}"#).unwrap();
    let _backend = Backend::open(folder.path()).await.unwrap();
    let held = Backend::open(folder.path()).await.unwrap_err();
    assert!(matches!(held, LocalError::Held { pid: Some(pid), url: None, .. } if pid == std::process::id()));
}

#[tokio::test(start_paused = true)]
async fn expired_heads_are_collected_within_hours_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::open(folder.path()).await.unwrap();
    let store = backend.store();
    let expired = Head { state: State::Done, ttl: Some(UnixMs::new(1_000)), ..head(1) };
    let lasting = Head { state: State::Done, ttl: Some(UnixMs::new(32_503_680_000_000)), ..head(2) };
    for head in [&expired, &lasting] {
        assert_eq!(store.create(head).await.unwrap(), Created::New);
    }
    // The runtime's time jumps while everybody sleeps.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_hours(1)).await;
    }
    assert_eq!(store.load(&expired.id).await.unwrap(), None);
    assert_eq!(store.load(&lasting.id).await.unwrap(), Some(lasting));
}

/// How the test below tells its other process where to write.
const WRITE_INTO: &str = "SENTINEL_TEST_WRITE_INTO";

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(WRITE_INTO, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let written = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("written ")?.parse().ok());
    let acknowledged: Vec<u32> = written.take(25).collect();
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(acknowledged.len(), 25);

    runtime().block_on(async {
        let backend = Backend::open(folder.path()).await.unwrap();
        for n in acknowledged {
            assert_eq!(backend.store().load(&head(n).id).await.unwrap(), Some(head(n)));
        }
    });
}

#[test]
#[ignore = "it is the other process of what_was_acknowledged_survives_kill_9, and never ends by itself"]
fn writes_until_it_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "it is how the parent process speaks to this one")]
    let Some(folder) = std::env::var_os(WRITE_INTO) else { return };
    runtime().block_on(async {
        let backend = Backend::open(Path::new(&folder)).await.unwrap();
        for n in 0.. {
            assert_eq!(backend.store().create(&head(n)).await.unwrap(), Created::New);
            println!("\nwritten {n}");
        }
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Backend::open(&file.join("data")).await.unwrap_err();
    assert!(matches!(error, LocalError::Unwritable { .. }), "{error:?}");
    assert!(error.to_string().contains(&*file.join("data").to_string_lossy()), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sentinel.db");
    let text = "this is a diary, not a database. ".repeat(100);
    fs::write(&file, &text).unwrap();
    let error = Backend::open(folder.path()).await.unwrap_err();
    assert!(matches!(&error, LocalError::Unreadable { file: named, .. } if *named == file), "{error:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_made_here_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _backend = Backend::open(&data).await.unwrap();
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn spending_is_counted_here_as_on_aws() {
    let backend = Backend::memory().await.unwrap();
    let limits = Limits { per_hour: Some(1), ..Limits::default() };
    let reserve = |id: &str| Entry::Reserve {
        reservation: Reservation {
            scope: Scope::Overall,
            at: UnixMs::new(1_000),
            id: id.into(),
            amount: Amount::INVESTIGATION,
        },
        limits,
    };
    assert_eq!(backend.store().budget(&reserve("a")).await.unwrap(), Entered::Done);
    assert!(matches!(backend.store().budget(&reserve("b")).await.unwrap(), Entered::UsedUp(_)));
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn the_data_folder_and_all_that_is_in_it_are_their_owners_alone_also_where_they_were_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let files = || fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let private = |when: &str| {
        assert_eq!(mode(&data), 0o700, "{when}");
        for file in files() {
            assert_eq!(mode(&file), 0o600, "{when}: {}", file.display());
        }
    };
    let backend = Backend::open(&data).await.unwrap();
    fill(&*backend.store()).await;
    backend.announce("http://127.0.0.1:1").unwrap();
    let names: Vec<String> =
        files().iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
    for name in ["sentinel.db", "sentinel.db-wal", "sentinel.db-shm", "sentinel.lock", "service.json"] {
        assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
    private("made anew");
    drop(backend);

    // As an older version left it.
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    fs::write(data.join("service.json"), "{}").unwrap();
    for file in files() {
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    }
    let backend = Backend::open(&data).await.unwrap();
    fill_again(&*backend.store()).await;
    private("opened again");
}

async fn fill_again(store: &dyn IncidentStore) {
    assert_eq!(store.create(&head(2)).await.unwrap(), Created::New);
}

#[tokio::test]
async fn a_data_folder_behind_a_link_and_a_linked_file_in_it_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (data, link) = (folder.path().join("data"), folder.path().join("link"));
    drop(Backend::open(&data).await.unwrap());
    symlink(&data, &link).unwrap();
    let refused = Backend::open(&link).await.unwrap_err();
    assert!(refused.to_string().contains("symbolic link"), "{refused}");
    assert!(!refused.is_retryable());

    fs::rename(data.join("sentinel.db"), folder.path().join("elsewhere")).unwrap();
    symlink(folder.path().join("elsewhere"), data.join("sentinel.db")).unwrap();
    let refused = Backend::open(&data).await.unwrap_err().to_string();
    assert!(refused.contains("sentinel.db") && refused.contains("symbolic link"), "{refused}");
}
