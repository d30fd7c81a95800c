#!/bin/sh
# Creates two accounts: one that writes to one exchange, and one that reads two queues. Running it again does no harm. Run it where
# rabbitmqctl works, after `rabbitmqctl import_definitions definitions.json`:
#   accounts.sh FILE_WITH_THE_SHIPPERS_PASSWORD FILE_WITH_LOGSTASHS_PASSWORD
# RABBITMQCTL sets another command, such as "kubectl -n rabbitmq exec -i rabbitmq-0 -- rabbitmqctl".
set -eu
ctl=${RABBITMQCTL:-rabbitmqctl}
[ $# = 2 ] && [ -s "$1" ] && [ -s "$2" ] || { echo "accounts.sh: name two files, each with a password in its first line" >&2; exit 64; }

account() { # account NAME FILE WRITE READ
    # Passwords go through standard input, so that no process list shows them. A trailing newline is ignored.
    password() { head -n 1 "$1" | tr -d '\r'; }
    if $ctl --quiet list_users | cut -f 1 | grep -qx "$1"; then
        password "$2" | $ctl --quiet change_password "$1"
    else
        password "$2" | $ctl --quiet add_user "$1"
    fi
    $ctl --quiet set_permissions --vhost / "$1" "" "$3" "$4"
}

account log-shipper "$1" '^logstash-exchange$' ''
account logstash "$2" '' '^(logstash|logstash-dead)$'
