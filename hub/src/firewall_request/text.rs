//! The words of a request, in the language of the network team.

use chrono::NaiveDate;

use super::{Language, Purpose};

/// Headings of the table, in the order of its columns.
pub fn columns(language: Language) -> [&'static str; 10] {
    match language {
        Language::En => [
            "No.",
            "AWS account",
            "Direction",
            "Source",
            "Destination",
            "Protocol",
            "Destination port",
            "Purpose",
            "From",
            "Until",
        ],
        Language::Ja => [
            "No.",
            "AWSアカウント",
            "通信方向",
            "送信元",
            "宛先",
            "プロトコル",
            "宛先ポート",
            "用途",
            "開始日",
            "終了日",
        ],
    }
}

pub fn direction(language: Language, purpose: &Purpose) -> &'static str {
    match (language, purpose) {
        (Language::En, Purpose::Replication | Purpose::Enrolment) => "Source network to staging VPC",
        (Language::En, Purpose::Hub) => "Staging VPC to hub",
        (Language::En, Purpose::Aws(_)) => "Staging VPC to AWS (internet)",
        (Language::Ja, Purpose::Replication | Purpose::Enrolment) => "移行元ネットワーク → ステージングVPC",
        (Language::Ja, Purpose::Hub) => "ステージングVPC → 移行管理ハブ",
        (Language::Ja, Purpose::Aws(_)) => "ステージングVPC → AWS（インターネット経由）",
    }
}

pub fn purpose(language: Language, purpose: &Purpose) -> String {
    match (language, purpose) {
        (Language::En, Purpose::Replication) => {
            "Replication of the disks of source servers (mutual TLS 1.3)".into()
        }
        (Language::En, Purpose::Enrolment) => {
            "Enrolment of source servers, and measuring the line before it (HTTPS)".into()
        }
        (Language::En, Purpose::Hub) => "Reports to the hub, and its orders (mutual TLS 1.3)".into(),
        (Language::En, Purpose::Aws(service)) => format!("Calls of the AWS service {service} (HTTPS)"),
        (Language::Ja, Purpose::Replication) => {
            "移行元サーバーのディスクデータの複製（TLS 1.3・相互認証）".into()
        }
        (Language::Ja, Purpose::Enrolment) => "移行元サーバーの登録および登録前の回線測定（HTTPS）".into(),
        (Language::Ja, Purpose::Hub) => {
            "移行管理ハブへの状況報告および指示の取得（TLS 1.3・相互認証）".into()
        }
        (Language::Ja, Purpose::Aws(service)) => format!("AWSサービス {service} の呼び出し（HTTPS）"),
    }
}

/// What stands above the table.
pub fn introduction(
    language: Language,
    account: &str,
    (from, until): (Option<NaiveDate>, Option<NaiveDate>),
) -> String {
    let date =
        |date: Option<NaiveDate>, open: &str| date.map_or_else(|| open.to_owned(), |date| date.to_string());
    match language {
        Language::En => format!(
            "# Firewall request: server migration with Orglift\n\n\
             - AWS account: {account}\n\
             - Period: {} to {}\n\n\
             Please let the following connections through. The source opens each of them; none is opened the other \
             way. A device that knows no connections has to let the answers pass, too, to TCP ports 1024-65535 of the \
             source.\n",
            date(from, "at once"),
            date(until, "the end of the migration")
        ),
        Language::Ja => format!(
            "# ファイアウォール通信許可申請書（Orgliftによるサーバー移行）\n\n\
             - 対象AWSアカウント: {account}\n\
             - 申請期間: {} ～ {}\n\n\
             下記の通信を許可していただきますようお願いいたします。いずれも送信元から開始するTCP通信であり、\
             宛先側から開始する通信はございません。ステートレスな機器をご利用の場合は、\
             応答通信（送信元のTCPポート1024～65535宛て）につきましても、併せて許可をお願いいたします。\n",
            date(from, "承認後すみやかに"),
            date(until, "移行完了まで")
        ),
    }
}

/// What stands below it.
pub fn remarks(language: Language) -> &'static str {
    match language {
        Language::En => {
            "- Please exempt these connections from TLS inspection and from proxies: both ends check each other's \
             certificates, and what comes between them is refused.\n\
             - Source servers need no internet, no name service and no proxy.\n\
             - The runner's address stays when the runner is replaced.\n\
             - `orglift-agent doctor` on a source server shows whether the way is open.\n"
        }
        Language::Ja => {
            "- 両端で証明書を相互に検証しているため、TLSの復号検査およびプロキシの対象から除外していただきますよう\
             お願いいたします。経路上で復号された場合、通信は成立いたしません。\n\
             - 移行元サーバーでは、インターネット接続、名前解決（DNS）およびプロキシは不要です。\n\
             - ランナーのIPアドレスは、ランナーを交換した場合も変わりません。\n\
             - 設定後の疎通は、移行元サーバー上で `orglift-agent doctor` を実行することにより確認できます。\n"
        }
    }
}
