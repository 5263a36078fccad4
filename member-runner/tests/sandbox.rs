//! What a program of a guest can reach from its sandbox: its own files, and nothing of this machine.
//!
//! Perl stands for whatever a stranger brings along to get out.

#[path = "sandbox/guest.rs"]
mod guest;

use std::{
    fs,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::symlink,
            net::{SocketAddr, UnixListener},
        },
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use guest::{Guest, RUNNER};
use member_runner::convert::sandbox::{Limits, OUTPUT_MAX, SandboxError};

/// Numbers of x86-64, by which perl calls the system.
const SYSTEM_CALLS: &str = "
    my %calls = (socket => 41, kill => 62, ptrace => 101, mknod => 133, pivot_root => 155, mount => 165,
        umount2 => 166, unshare => 272);
    sub try { my ($name, @args) = @_; my $done = syscall($calls{$name}, @args);
        print $name, ': ', $done == 0 ? 'DONE' : $!, qq(\\n); }
";

macro_rules! needs_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "tests of the sandbox need root"
            );
            eprintln!("cannot run here: the sandbox: not root");
            return;
        }
    };
}

#[test]
fn a_program_writes_its_own_files_with_a_clean_environment() {
    needs_root!();
    let guest = Guest::new();
    let said = guest.shell("echo kept > /etc/kept; echo gone > /tmp/gone; echo gone > /run/gone; cat");
    assert_eq!(said, "");
    assert_eq!(
        fs::read_to_string(guest.path("/etc/kept")).expect("it is there"),
        "kept\n"
    );
    assert!(!guest.path("/tmp/gone").exists() && !guest.path("/run/gone").exists());
    let environment = guest.perl("print map { qq($_=$ENV{$_}\n) } sort keys %ENV");
    insta::assert_snapshot!(environment);
}

#[test]
fn a_failure_says_what_the_program_said() {
    needs_root!();
    let guest = Guest::new();
    let failed = |script: &str| {
        guest
            .sandbox()
            .run("/bin/sh", &["-c", script])
            .expect_err("it fails")
    };
    let error = failed("echo out; echo err >&2; exit 3").to_string();
    assert_eq!(error, "/bin/sh failed with status 3; it said:\nout\nerr\n");
    let killed = failed("kill -9 $$");
    assert!(
        matches!(killed, SandboxError::Failed { status: 137, .. }),
        "{killed}"
    );
    let missing = guest.sandbox().run("/bin/none", &[]).expect_err("it fails");
    assert!(
        matches!(missing, SandboxError::Failed { status: 127, .. }),
        "{missing}"
    );
}

#[test]
fn the_way_up_leads_to_the_same_root() {
    needs_root!();
    let guest = Guest::new();
    let outside = tempfile::NamedTempFile::new().expect("a file is made");
    let path = outside.path().display().to_string();
    // The classic way out of chroot(2).
    let said = guest.perl(&format!(
        "mkdir '/etc/cell'; chroot '/etc/cell' or print qq(no chroot\\n); chdir '..' for 1..64; chroot '.';
         print -e '/bin/perl' ? qq(guest\\n) : qq(elsewhere\\n); print -e '{path}' ? qq(OUT\\n) : qq(in\\n);
         print opendir(my $d, '/proc/1/root/') ? qq(OPEN\n) : qq($!\n);"
    ));
    assert_eq!(said, "guest\nin\nPermission denied\n");
}

#[test]
fn there_are_no_mounts_but_the_guests_and_ours() {
    needs_root!();
    let said = Guest::new().perl(
        "open my $m, '<', '/proc/self/mountinfo'; while (<$m>) { my @f = split; print $f[4];
         print map { qq( $_) } grep { !/atime/ } split ',', $f[5] if $f[4] !~ m,^/dev/,; print qq(\\n) }",
    );
    insta::assert_snapshot!(said);
}

#[test]
fn links_in_place_of_folders_are_refused() {
    needs_root!();
    let guest = Guest::new();
    fs::remove_dir(guest.path("/dev")).expect("it is empty");
    symlink("/etc", guest.path("/dev")).expect("a link is made");
    let error = guest
        .sandbox()
        .run("/bin/sh", &["-c", "true"])
        .expect_err("it is refused");
    assert_eq!(
        error.to_string(),
        "cannot make a sandbox for programs of the guest: the guest's /dev is no folder"
    );
}

#[test]
fn devices_of_the_guests_files_do_not_work() {
    needs_root!();
    let guest = Guest::new();
    // /dev/zero by another name: that it cannot be read is for the mount, not for what it would give.
    let made = Command::new("mknod")
        .arg(guest.path("/etc/zero"))
        .args(["c", "1", "5"])
        .status()
        .expect("mknod runs");
    assert!(made.success());
    let said = guest.perl(&format!(
        "{SYSTEM_CALLS} my ($node, $tmp) = (qq(/etc/node\\0), qq(/tmp/node\\0));
         print open(my $zero, '<', '/etc/zero') ? qq(OPEN\\n) : qq($!\\n);
         try('mknod', $node, 0060660, 0x700); try('mknod', $tmp, 0060660, 0x700);
         opendir my $dev, '/dev'; print join(' ', sort grep {{ !/^[.]/ }} readdir $dev), qq(\\n);"
    ));
    insta::assert_snapshot!(said);
}

#[test]
fn what_needs_privileges_is_refused() {
    needs_root!();
    let said = Guest::new().perl(&format!(
        "{SYSTEM_CALLS} my ($tmpfs, $mnt, $proc) = (qq(tmpfs\\0), qq(/etc\\0), qq(/proc\\0));
         try('mount', $tmpfs, $mnt, $tmpfs, 0, 0); try('mount', $proc, $proc, 0, 0x1021, 0);
         try('umount2', $proc, 2); try('pivot_root', $mnt, $mnt);
         try('unshare', 0x10000000); try('unshare', 0x20000); try('unshare', 0x40000000);
         try('ptrace', 16, 1, 0, 0);
         open my $s, '<', '/proc/self/status'; while (<$s>) {{ print if /^(Cap|NoNewPrivs|Groups|Uid)/ }}"
    ));
    insta::assert_snapshot!(said);
}

#[test]
fn settings_of_the_kernel_are_read_only() {
    needs_root!();
    let pattern = || fs::read_to_string("/proc/sys/kernel/core_pattern").expect("it is there");
    let before = pattern();
    let said = Guest::new().perl(
        "for my $path ('/proc/sys/kernel/core_pattern', '/proc/sys/user/max_user_namespaces', '/sys/power') { print open(my $f, '>', $path) ? qq(OPEN $path\\n) : qq($path: $!\\n) }",
    );
    assert_eq!(pattern(), before);
    insta::assert_snapshot!(said);
}

#[test]
fn efi_is_seen_where_there_is_efi() {
    needs_root!();
    let guest = Guest::new();
    let look = "if [ -d /sys/firmware/efi ]; then echo EFI; else echo BIOS; fi";
    assert_eq!(guest.shell(look), "BIOS\n");
    let output = guest
        .sandbox()
        .with_efi()
        .run("/bin/sh", &["-c", look])
        .expect("it runs");
    assert_eq!(output.whole().as_deref(), Some("EFI\n"));
}

#[test]
fn no_network_is_reached() {
    needs_root!();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = tcp.local_addr().expect("it is bound").port();
    let name = format!("orglift-sandbox-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("it is a name");
    let _unix = UnixListener::bind_addr(&address).expect("the name is free");
    let reach = format!(
        "socket my $t, 2, 1, 0; print connect($t, pack('S n C4 x8', 2, {port}, 127, 0, 0, 1)) ? 'OUT' : $!, qq(\\n);
         socket my $u, 1, 1, 0; print connect($u, pack('S a*', 1, qq(\\0{name}))) ? 'OUT' : $!, qq(\\n);
         open my $d, '<', '/proc/net/dev' or exit; my @lines = <$d>; print scalar(@lines) - 2, qq( interface\\n);"
    );
    let said = Guest::new().perl(&reach);
    assert_eq!(said, "Network is unreachable\nConnection refused\n1 interface\n");
    // From here both are.
    let here = Command::new("perl")
        .args(["-e", &reach])
        .output()
        .expect("perl runs");
    assert!(here.stdout.starts_with(b"OUT\nOUT\n"));
}

#[test]
fn other_processes_are_neither_seen_nor_killed() {
    needs_root!();
    let mut bystander = Bystander(Command::new("sleep").arg("600").spawn().expect("sleep runs"));
    let pid = bystander.0.id();
    let said = Guest::new().perl(&format!(
        "opendir my $proc, '/proc'; my @processes = grep {{ /^[0-9]+$/ }} readdir $proc;
         print scalar(@processes), qq(\\n);
         print kill(9, {pid}) ? 'KILLED' : $!, qq(\\n); kill 9, -1; kill 9, 1; print qq(alive\\n);"
    ));
    assert_eq!(said, "2\nNo such process\nalive\n");
    assert!(bystander.0.try_wait().expect("it is our child").is_none());
}

struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().expect("it is our child");
        self.0.wait().expect("it is our child");
    }
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    needs_root!();
    let guest = Guest::new();
    let mark = format!("6{}", std::process::id());
    let limits = Limits {
        time: Duration::from_secs(2),
        ..Limits::default()
    };
    let began = Instant::now();
    let script = format!("echo begun; (trap '' TERM HUP; exec sleep {mark}.1) & exec sleep {mark}.2");
    let error = guest
        .sandbox()
        .with_limits(limits)
        .run("/bin/sh", &["-c", &script])
        .expect_err("it is killed");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(
        error.to_string(),
        "/bin/sh did not end within 2 s, and was killed; it said:\nbegun\n"
    );
    assert_eq!(processes_with(&mark), Vec::<String>::new());
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    needs_root!();
    let mark = format!("7{}", std::process::id());
    let said = Guest::new().shell(&format!("sleep {mark} & echo left"));
    assert_eq!(said, "left\n");
    assert_eq!(processes_with(&mark), Vec::<String>::new());
}

#[test]
fn a_conversion_that_is_killed_leaves_no_process() {
    needs_root!();
    let guest = Guest::new();
    let mark = format!("8{}", std::process::id());
    // This very test program, which runs a sandbox where it is told what for.
    let mut conversion = Command::new(std::env::current_exe().expect("we run"))
        .args(["--exact", "runs_what_the_environment_says", "--nocapture"])
        .env("ORGLIFT_TEST_SANDBOX", guest.root.path())
        .env("ORGLIFT_TEST_SLEEP", &mark)
        .stdout(Stdio::null())
        .spawn()
        .expect("we run");
    eventually("the program runs", || processes_with(&mark).len() == 1);
    conversion.kill().expect("it is our child");
    conversion.wait().expect("it is our child");
    eventually("the program is gone", || processes_with(&mark).is_empty());
}

/// The conversion of the test before; by itself it has nothing to do.
#[test]
fn runs_what_the_environment_says() {
    let (Some(root), Ok(sleep)) = (
        std::env::var_os("ORGLIFT_TEST_SANDBOX"),
        std::env::var("ORGLIFT_TEST_SLEEP"),
    ) else {
        return;
    };
    let sandbox = member_runner::convert::sandbox::Sandbox::new(root.as_ref(), RUNNER.as_ref());
    panic!("it ended: {:?}", sandbox.run("/bin/sleep", &[&sleep]));
}

#[test]
fn endless_output_is_cut() {
    needs_root!();
    let output = Guest::new()
        .sandbox()
        .run(
            "/bin/perl",
            &[
                "-e",
                "print 'first'; print 'x' x (1 << 20) for 1..8; print 'last'",
            ],
        )
        .expect("it runs");
    assert_eq!(output.left_out, (8 << 20) + 9 - OUTPUT_MAX as u64);
    let text = output.to_string();
    assert!(text.starts_with("firstx") && text.ends_with("xlast"));
}

#[test]
fn memory_and_files_are_limited() {
    needs_root!();
    let limits = Limits {
        memory_bytes: 256 << 20,
        file_bytes: 1 << 20,
        tmp_bytes: 2 << 20,
        ..Limits::default()
    };
    let sandbox = Guest::new();
    let sandbox = sandbox.sandbox().with_limits(limits);
    let perl = |script: &str| sandbox.run("/bin/perl", &["-e", script]);

    let memory = perl("my $x = 'x' x (512 << 20); print 'HAVE'").expect_err("memory ends");
    assert!(memory.to_string().contains("Out of memory"), "{memory}");

    let said = perl(
        "$SIG{XFSZ} = 'IGNORE'; open my $f, '>', '/etc/long';
         for (1..3) { syswrite $f, 'x' x (1 << 19) or print qq(file: $!\\n) }
         for my $n (1..3) { open my $t, '>', qq(/tmp/$n); syswrite $t, 'x' x (1 << 20) or print qq(tmp: $!\\n) }",
    )
    .expect("it runs");
    assert_eq!(
        said.to_string(),
        "file: File too large\ntmp: No space left on device\n"
    );
}

/// Command lines of processes that have `mark` in them.
fn processes_with(mark: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .expect("it is there")
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains("sleep ") && line.contains(mark))
        .collect()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "not yet: {what}");
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing tells when a process is gone that is not a child"
        )]
        std::thread::sleep(Duration::from_millis(20));
    }
}
