//! Programs are started, watched and always ended.

use sentinel_testkit::process::{Child, command};

fn shell(script: &str) -> Child {
    let mut sh = command("/bin/sh");
    sh.args(["-c", script]);
    Child::start("sh", sh)
}

fn is_alive(pid: &str) -> bool {
    // A zombie that init has not collected yet is dead.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The kernel may take a moment to carry out a signal that was sent.
async fn wait_until_dead(pid: &str) {
    let until = std::time::Instant::now() + sentinel_testkit::PATIENCE;
    while is_alive(pid) {
        assert!(std::time::Instant::now() < until, "{pid} lives on");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn its_output_and_its_end_are_seen() {
    let mut child = shell("echo to stdout; echo to stderr >&2; exit 3");
    assert_eq!(child.wait_for_exit().await.code(), Some(3));
    assert_eq!((child.stdout().as_str(), child.stderr().as_str()), ("to stdout\n", "to stderr\n"));
    assert!(!child.is_running());
}

#[tokio::test]
async fn a_line_is_waited_for() {
    let mut child = shell("echo starting; echo listening on 17 >&2; exec cat /dev/zero > /dev/null");
    assert_eq!(child.wait_for_line("listening").await, "listening on 17");
    assert!(child.is_running());
}

#[tokio::test]
#[should_panic(expected = "ended before \"listening\"")]
async fn waiting_for_a_program_that_has_ended_fails_at_once() {
    shell("echo bad configuration >&2; exit 1").wait_for_line("listening").await;
}

#[tokio::test]
#[should_panic(expected = "ended before http://127.0.0.1:9/ was ready")]
async fn waiting_for_the_address_of_a_program_that_has_ended_fails_at_once() {
    shell("exit 1").wait_until_ready("http://127.0.0.1:9/").await;
}

#[tokio::test]
async fn signals_reach_it() {
    let script = "trap 'echo int' INT; trap 'echo term; exit 0' TERM; echo ready; while :; do :; done";
    let mut child = shell(script);
    child.wait_for_line("ready").await;
    child.interrupt();
    child.wait_for_line("int").await;
    child.terminate();
    assert!(child.wait_for_exit().await.success());
    assert_eq!(child.stdout(), "ready\nint\nterm\n");
}

#[tokio::test]
async fn dropping_it_ends_its_whole_process_group() {
    let mut child = shell("sleep 600 & echo $!; wait");
    let own = child.pid().to_string();
    // The shell's own child, whose number is its first line.
    let grandchild = child.wait_for_line("").await;
    assert!(is_alive(&own) && is_alive(&grandchild));
    drop(child);
    assert!(!is_alive(&own));
    wait_until_dead(&grandchild).await;
}

#[tokio::test]
async fn a_kill_leaves_no_chance_to_clean_up() {
    let mut child = shell("trap '' TERM INT; echo ready; while :; do :; done");
    child.wait_for_line("ready").await;
    child.kill();
    assert!(!child.is_running());
    assert!(!child.wait_for_exit().await.success());
}

#[tokio::test]
async fn a_program_dies_with_a_test_process_that_is_killed() {
    let mut own = command(std::env::current_exe().unwrap());
    own.args(["--exact", "a_test_process_with_a_program", "--ignored", "--nocapture"]);
    let mut other = Child::start("another test process", own);
    let line = other.wait_for_line("its program is ").await;
    let program = line.rsplit(' ').next().unwrap();
    assert!(is_alive(program));
    // Its program is in another process group: only the kernel can end it.
    other.kill();
    wait_until_dead(program).await;
}

#[tokio::test]
#[ignore = "the other process of the test above"]
async fn a_test_process_with_a_program() {
    let mut program = shell("exec sleep 600");
    println!("its program is {}", program.pid());
    program.wait_for_exit().await;
}
