# Run in the server's tree: what the server does. A writer inserts rows into PostgreSQL, numbered without a gap, each in
# a transaction of its own; nginx shows the number of the last that is committed, at /committed.
install -d -o postgres -g postgres /var/www/html/shown
ln -sf shown/committed /var/www/html/committed

cat >/usr/local/sbin/writer <<'END'
#!/bin/bash
# Whatever fails, systemd starts it again, and it goes on after the last row.
set -euo pipefail
cd /var/www/html/shown
psql=(psql --quiet --no-psqlrc --no-align --tuples-only --set=ON_ERROR_STOP=1)
"${psql[@]}" --command='create table if not exists entry (number bigint primary key, text text not null)'
coproc session { "${psql[@]}"; }
while true; do
    echo "insert into entry select coalesce(max(number), 0) + 1, repeat(md5(random()::text), 20) from entry
        returning number;" >&"${session[1]}"
    read -r number <&"${session[0]}"
    echo "$number" >draft
    mv draft committed
    sleep 1
done
END
chmod 755 /usr/local/sbin/writer

cat >/etc/systemd/system/writer.service <<'END'
[Unit]
Description=Writes rows, and shows how many
After=postgresql.service nginx.service
Wants=postgresql.service
StartLimitIntervalSec=0

[Service]
User=postgres
ExecStart=/usr/local/sbin/writer
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
END
systemctl enable writer.service
