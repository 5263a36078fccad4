//! The whole console in Japanese: nothing on any page is left in English.

use super::{
    world::{application_id, running_job, wave_id},
    *,
};

/// What a page says: its texts, and the attributes that people hear or see.
fn said(html: &str) -> Vec<String> {
    let mut said = Vec::new();
    let mut rest = html;
    let mut hidden = 0;
    while let Some((text, after)) = rest.split_once('<') {
        if hidden == 0 {
            said.push(text.to_owned());
        }
        let Some((tag, after)) = after.split_once('>') else {
            break;
        };
        // What machines and logs say is as they said it, and is marked so.
        let is_verbatim = ["code", "pre", "style"]
            .iter()
            .any(|name| tag.split(' ').next() == Some(name))
            || tag.contains("class=\"mono")
            || tag.contains("lang=\"en\"");
        let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
        if hidden > 0 && tag.starts_with('/') {
            hidden -= 1;
        } else if !tag.starts_with('/')
            && !["input", "br", "link", "meta", "img"].contains(&name)
            && (is_verbatim || hidden > 0)
        {
            hidden += 1;
        }
        for attribute in ["aria-label=\"", "title=\"", "placeholder=\"", "alt=\""] {
            if let Some((_, value)) = tag.split_once(attribute)
                && !tag.contains("data-state")
            {
                said.push(value.split('"').next().unwrap_or_default().to_owned());
            }
        }
        rest = after;
    }
    said
}

/// What is for programs stays as it is: addresses, classes, names.
fn names_are_plain(html: &str) -> bool {
    [
        " class=\"",
        " href=\"",
        " id=\"",
        " action=\"",
        " name=\"",
        " hx-get=\"",
    ]
    .iter()
    .flat_map(|attribute| html.split(attribute).skip(1))
    .all(|rest| rest.split('"').next().unwrap_or_default().is_ascii())
}

/// Two English words in a row that no name of the world explains.
fn is_english(text: &str, names: &[&str]) -> bool {
    let mut text = text.to_owned();
    for name in names {
        text = text.replace(name, " ・ ");
    }
    let words: Vec<_> = text
        .split(|c: char| !(c.is_ascii_alphabetic() || c == '\'' || c == ' '))
        .flat_map(|run| {
            let words: Vec<_> = run.split(' ').filter(|word| !word.is_empty()).collect();
            words
                .windows(2)
                .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    words.iter().any(|(first, second)| {
        let is_word = |word: &str| {
            word.len() > 1
                && word[1..]
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'\'')
        };
        is_word(first) && is_word(second)
    })
}

/// Names, which have no translation.
const NAMES: &[&str] = &[
    "Orglift",
    "AWS Application Migration Service",
    "Debian GNU",
    "Red Hat Enterprise Linux",
    "Windows Server",
    "Ubuntu",
    "Rocky Linux",
    "Example Corp",
    "Government tenant",
    "Amazon Linux",
    "SUSE Linux Enterprise Server",
];

/// What machines, clouds, findings and the log say, which is shown as they say it.
const QUOTED: &[&str] = &[
    "The kernel is locked down in confidentiality mode",
    "is mounted from",
    "events were lost at",
    "Add an inbound rule: TCP 1500",
    "Decrypt it on the source",
    "was denied: the account",
    "No connection from",
    "Let the target subnet reach it",
    "was rejected: the subnet",
    "must deploy the member role",
    "The root file system is encrypted",
    "Where runners reach the hub is not known",
    "does not match its digest",
    "cloud-init is not installed",
    "source server is replicated by another machine",
    "has no inbound rule for TCP",
    "has no free address",
    "let through: ",
    "from source servers to",
    "Staging VPC to hub",
    "was throttled",
    "RegisterImage",
    // Steps of sagas.
    "Await status checks",
    "Check launch",
    "Deregister image",
    "Keep template",
    "Launch instance",
    "Pin checkpoint",
    "Record launch",
    "Register image",
    "register image",
    "Remove previous instance",
    "Take checkpoint",
    "Unpin checkpoint",
    // The audit log.
    "add user",
    "for everything",
    "command line",
    "sign in",
];

/// Every page, and who looks at it.
fn pages() -> Vec<(String, &'static str)> {
    let server = |number| format!("/servers/{}", server_id(number));
    let mut pages: Vec<(String, &'static str)> = [
        "/",
        "/?by=wave",
        "/?by=application",
        "/servers",
        "/servers?q=none",
        "/search",
        "/search?q=none",
        "/search?q=web",
        "/jobs",
        "/audit",
        "/audit?q=none",
        "/profile",
        "/profile/password",
        "/profile/second-factor",
        "/people",
        "/people/add",
        "/settings",
        "/settings/targets",
        "/settings/templates/launch?scope=everything",
        "/settings/templates/replication?scope=everything",
        "/people/viewer",
        "/nowhere",
        "/people/viewer/password",
        "/applications",
        "/applications?q=none",
        "/applications/add",
        "/waves",
        "/waves?archived=yes",
        "/waves/add",
        "/inventory",
    ]
    .into_iter()
    .map(|page| (page.to_owned(), "administrator"))
    .collect();
    for number in 1..=12 {
        for more in ["", "/launch-configuration", "/replication-configuration"] {
            pages.push((format!("{}{more}", server(number)), "administrator"));
        }
        for action in [
            "start-test",
            "start-cutover",
            "finalize-cutover",
            "terminate-target-instances",
            "disconnect-from-service",
            "mark-ready-for-cutover",
            "archive",
            "pause-replication",
            "resume-replication",
            "stop-replication",
            "start-replication",
            "retry-data-replication",
            "revert-to-ready-for-test",
            "revert-to-ready-for-cutover",
        ] {
            pages.push((format!("{}/actions/{action}", server(number)), "administrator"));
        }
    }
    for (account, _) in ACCOUNTS {
        for more in ["", "/enrol/agent", "/enrol/runner"] {
            pages.push((format!("/accounts/{account}{more}"), "administrator"));
        }
    }
    for index in [0, 1, 3] {
        let application = application_id(index);
        for more in ["", "/edit", "/servers"] {
            pages.push((format!("/applications/{application}{more}"), "administrator"));
        }
        let wave = wave_id(index);
        for more in ["", "/edit", "/plan", "/launch/test", "/launch/cutover", "/report"] {
            pages.push((format!("/waves/{wave}{more}"), "administrator"));
        }
        for action in ["start-test", "start-cutover", "pause-replication", "disconnect"] {
            pages.push((format!("/bulk?action={action}&wave={wave}"), "administrator"));
        }
    }
    for job in [failed_job(), running_job()] {
        pages.push((format!("/jobs/{job}"), "administrator"));
    }
    for measure in [
        "unlock",
        "remove-second-factor",
        "end-sessions",
        "disable",
        "enable",
        "remove",
    ] {
        pages.push((format!("/people/viewer/measures/{measure}"), "administrator"));
    }
    pages.push(("/people".into(), "viewer"));
    pages.push((server(1), "viewer"));
    pages
}

#[tokio::test]
async fn no_page_says_anything_in_english_to_who_reads_japanese() {
    let console = console().await;
    let pages = pages();
    let mut english = std::collections::BTreeMap::new();
    for who in ["administrator", "viewer"] {
        let cookie = console.sign_in(who).await;
        for (page, _) in pages.iter().filter(|(_, whose)| *whose == who) {
            let mut request = request(Method::GET, &cookie, page, "");
            let language = "ja,en;q=0.5".parse().unwrap();
            request.headers_mut().insert(header::ACCEPT_LANGUAGE, language);
            let answer = console.ask(request).await;
            assert!(
                answer.body.contains("<html lang=\"ja\">"),
                "{page}: {}",
                answer.body
            );
            assert!(names_are_plain(&answer.body), "{page}: {}", answer.body);
            for text in said(&answer.body)
                .into_iter()
                .filter(|text| is_english(text, NAMES) && !QUOTED.iter().any(|quoted| text.contains(quoted)))
            {
                english
                    .entry(text.trim().to_owned())
                    .or_insert_with(|| page.clone());
            }
        }
    }
    let list: Vec<_> = english
        .iter()
        .map(|(text, page)| format!("{page}: {text}"))
        .collect();
    assert!(list.is_empty(), "{} texts:\n{}", list.len(), list.join("\n"));
}
