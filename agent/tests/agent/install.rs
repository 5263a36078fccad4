//! Installation, status and removal, by the program that people call.

use std::{fs, path::PathBuf};

use identity::{Authority, Role};

use crate::world::{
    enroller::{Enroller, SERVER},
    machine, noise,
    program::{Outcome, agent},
};

struct Site {
    folder: tempfile::TempDir,
    enroller: Enroller,
    /// Stands for the data port.
    _data: tokio::net::TcpListener,
    data_port: u16,
}

impl Site {
    async fn new() -> Self {
        identity::install_crypto_provider();
        let authority = Authority::generate("test").unwrap();
        let runner = machine(&authority, &Role::Runner(domain::ids::RunnerId::from_entropy(1)));
        let data = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("root.raw"), noise(1 << 20, 1)).unwrap();
        Self {
            folder,
            enroller: Enroller::start(authority, &runner).await,
            data_port: data.local_addr().unwrap().port(),
            _data: data,
        }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    async fn install(&self, token: &str, more: &[&str]) -> Outcome {
        self.install_at(self.enroller.port, self.data_port, token, more)
            .await
    }

    async fn install_at(&self, port: u16, data_port: u16, token: &str, more: &[&str]) -> Outcome {
        let (runner, data_port) = (format!("127.0.0.1:{port}"), data_port.to_string());
        let disk = self.folder.path().join("root.raw");
        let mut args = vec![
            "install",
            "--runner",
            &runner,
            "--data-port",
            &data_port,
            "--token",
            token,
            "--devices",
            disk.to_str().unwrap(),
            "--no-prompt",
        ];
        args.extend(more);
        agent(&self.dir(), &args).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_tells_each_step_and_the_server_id() {
    let site = Site::new().await;
    let outcome = site
        .install(
            &site.enroller.token(),
            &["--tags", "team=web", "tier=1", "--user-provided-id", "web-1"],
        )
        .await;
    assert!(outcome.success, "{outcome:?}");
    for line in [
        "The installation of the Orglift agent has started.",
        "Identified disk for replication: ",
        "root.raw of size 1 MiB",
        "All disks for replication were successfully identified.",
        "The following is the source server ID: s-00000000000000abc.",
        "You now have 3 active source servers.",
        "Run it with: orglift-agent run --dir ",
        "The Orglift agent was successfully installed.",
    ] {
        assert!(
            outcome.out.contains(line),
            "{line:?} is missing in\n{}",
            outcome.out
        );
    }
    {
        let seen = site.enroller.seen.lock().unwrap();
        assert_eq!(seen[0].tags["tier"], "1");
        assert_eq!(seen[0].user_provided_id.as_deref(), Some("web-1"));
        assert_eq!(seen[0].properties.disks.len(), 1);
        assert!(seen[0].replicate);
    }
    let credentials = identity::Credentials::load(&site.dir().join("credentials"))
        .unwrap()
        .unwrap();
    let expected = Role::Agent(domain::ids::SourceServerId::from_entropy(SERVER));
    assert_eq!(credentials.own().unwrap().role, expected);

    let status = agent(&site.dir(), &["status"]).await;
    assert!(status.err.contains("has not run yet"), "{status:?}");

    // Nobody replaces an agent by accident.
    let again = site.install(&site.enroller.token(), &[]).await;
    assert!(!again.success && again.err.contains("--force"), "{again:?}");
    let replaced = site
        .install(&site.enroller.token(), &["--force", "--no-replication"])
        .await;
    assert!(replaced.success, "{replaced:?}");
    assert!(replaced.out.contains("will be replaced") && replaced.out.contains("Replication is stopped"));

    let removed = agent(&site.dir(), &["uninstall"]).await;
    assert!(
        removed.success && removed.out.contains("was removed"),
        "{removed:?}"
    );
    assert!(!site.dir().exists());
    let nothing = agent(&site.dir(), &["uninstall"]).await;
    assert!(
        nothing.success && nothing.out.contains("No Orglift agent"),
        "{nothing:?}"
    );
    let status = agent(&site.dir(), &["status"]).await;
    assert!(status.err.contains("no agent is installed"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_wrong_used_or_foreign_is_told_apart_and_leaves_nothing_behind() {
    let site = Site::new().await;
    let garbled = site.install("olt1.nonsense", &[]).await;
    assert!(garbled.err.contains("not an enrolment token"), "{garbled:?}");
    let used = site.install(&site.enroller.used_token(), &[]).await;
    assert!(
        used.err.contains("this token has been used; create a new one"),
        "{used:?}"
    );
    let foreign = site.install(&Enroller::foreign_token(), &[]).await;
    assert!(
        foreign
            .err
            .contains("does not belong to the console that issued this token"),
        "{foreign:?}"
    );
    for outcome in [garbled, used, foreign] {
        assert!(!outcome.success);
    }
    assert!(!site.dir().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_findings_are_told_before_anything_is_asked() {
    let site = Site::new().await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let both = site.install_at(closed, closed, &site.enroller.token(), &[]).await;
    assert!(!both.success);
    assert!(
        both.err.contains("enrolment: ") && both.err.contains("replication: "),
        "{both:?}"
    );
    assert!(both.err.contains(&format!("TCP port {closed}")), "{both:?}");
    let one = site
        .install_at(site.enroller.port, closed, &site.enroller.token(), &[])
        .await;
    assert!(
        one.err.contains("replication: ") && !one.err.contains("enrolment: "),
        "{one:?}"
    );
    assert!(
        site.enroller.seen.lock().unwrap().is_empty(),
        "the token was not used up"
    );
}
