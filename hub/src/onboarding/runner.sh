#!/bin/bash
# The first boot of a runner's instance. CloudFormation puts values in the places marked by a dollar sign and a brace.
set -euo pipefail
umask 077

readonly program=/usr/local/bin/orglift-runner
readonly state=/var/lib/orglift

fetch() {
    aws s3api get-object --region '${AWS::Region}' --bucket '${Bucket}' --key "runner/$1" "$2" >/dev/null
}

install -d -m 0700 "$state"
# The bucket is empty until somebody puts the program there.
until fetch '${RunnerVersion}/orglift-runner' "$program.new"; do sleep 30; done
echo "${RunnerSha256}  $program.new" | sha256sum --check --quiet
chmod 0755 "$program.new"
mv "$program.new" "$program"

cat >/etc/systemd/system/orglift-runner.service <<'UNIT'
[Unit]
Description=Orglift runner
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=/usr/local/bin/orglift-runner run --dir /var/lib/orglift/runner --hub ${HubHost}:${HubPort} --hub-ca ${HubCa} --aws-identity ${AWS::Region} --store ${Store} --index s3:${AWS::Region}:${Bucket}/index
Environment=AWS_REGION=${AWS::Region}
Restart=always
RestartSec=5
StandardOutput=append:/var/log/orglift-runner.log
StandardError=inherit

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --now orglift-runner
