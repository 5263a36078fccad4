
# CloudWatch's agent carries the log out of the instance; the image must have it.
cat >/etc/orglift-logs.json <<'LOGS'
{"logs": {"logs_collected": {"files": {"collect_list": [
  {"file_path": "/var/log/orglift-runner.log", "log_group_name": "${LogGroup}", "log_stream_name": "{instance_id}"}
]}}}}
LOGS
/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl -a fetch-config -m ec2 -s -c file:/etc/orglift-logs.json
