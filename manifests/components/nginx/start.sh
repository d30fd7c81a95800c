#!/bin/sh
# Fills in nginx.conf, starts nginx, and reloads it when the certificate is renewed. It runs as any user, and writes only to $RUN.
set -eu
FILES=${FILES:-/etc/labhands/nginx}
TLS=${TLS:-/etc/labhands/tls}
RUN=${RUN:-/tmp}
RESOLV_CONF=${RESOLV_CONF:-/etc/resolv.conf}

refuse() {
    echo "nginx: $1" | tee /dev/termination-log >&2 2>/dev/null || echo "nginx: $1" >&2
    exit 64
}

for file in tls.crt tls.key; do
    [ -s "$TLS/$file" ] || refuse "$file is missing: put it into the Secret nginx-tls of the namespace labhands"
done

# nginx does not use search domains, so a Service needs its full name.
domain=$(awk '$1 == "search" { for (i = 2; i <= NF; i++) if ($i ~ /^svc\./) { print $i; exit } }' "$RESOLV_CONF")
domain=${domain:-svc.cluster.local}
resolver=$(awk '$1 == "nameserver" { print ($2 ~ /:/) ? "[" $2 "]" : $2; exit }' "$RESOLV_CONF")
[ -n "$resolver" ] || refuse "there is no nameserver in $RESOLV_CONF"

address() { # address NAME VALUE: nginx's form of NAMESPACE/SERVICE[:PORT] or HOST:PORT
    case $2 in
    *[!A-Za-z0-9./:_-]*) refuse "$1: \"$2\" has a character that is not allowed in an address (example: $1=jupyter/proxy-public)" ;;
    */*/* | /* | */) refuse "$1: \"$2\" is not NAMESPACE/SERVICE (example: $1=jupyter/proxy-public)" ;;
    */*:*) service=${2#*/}; echo "${service%%:*}.${2%%/*}.$domain:${service##*:}" ;;
    */*) echo "${2#*/}.${2%%/*}.$domain:80" ;;
    *:*) echo "$2" ;;
    *) refuse "$1: \"$2\" is not NAMESPACE/SERVICE (example: $1=jupyter/proxy-public)" ;;
    esac
}

hub=$(address HUB_SERVICE "${HUB_SERVICE:-jupyter/proxy-public}")
firefly=
context=${FIREFLY_CONTEXT:-/firefly}
context=${context%/}
if [ -n "${FIREFLY_SERVICE:-}" ]; then
    firefly=$(address FIREFLY_SERVICE "$FIREFLY_SERVICE")
    case $context in
    /*[!A-Za-z0-9/_-]* | [!/]* | '' | /hub | /hub/* | /user | /user/*)
        refuse "FIREFLY_CONTEXT: \"$context\" is not a separate path (example: FIREFLY_CONTEXT=/firefly)" ;;
    esac
fi
case ${SITE_HOST:-} in
*[!A-Za-z0-9.-]*) refuse "SITE_HOST: \"$SITE_HOST\" is not a host name (example: SITE_HOST=labs.example.org)" ;;
esac

mkdir -p "$RUN"
umask 077
certificate() { awk 1 "$TLS/tls.crt"; [ ! -s "$TLS/root_chain.pem" ] || awk 1 "$TLS/root_chain.pem"; }
take() { certificate >"$RUN/chain.pem"; awk 1 "$TLS/tls.key" >"$RUN/key.pem"; }
sum() { { certificate; cat "$TLS/tls.key"; } 2>/dev/null | cksum; }

sed -e "s|@RUN@|$RUN|g" -e "s|@RESOLVER@|$resolver|" -e "s|@HUB@|$hub|" -e "s|@FIREFLY@|$firefly|" \
    -e "s|@FIREFLY_CONTEXT@|$context|g" -e "s|@REDIRECT_HOST@|${SITE_HOST:-\$host}|" \
    -e "s|@HTTP_PORT@|${HTTP_PORT:-8080}|" -e "s|@HTTPS_PORT@|${HTTPS_PORT:-8443}|" "$FILES/nginx.conf" |
    if [ -n "$firefly" ]; then cat; else sed '/# firefly begins/,/# firefly ends/d'; fi >"$RUN/nginx.conf"

seen=$(sum)
take
nginx -e stderr -c "$RUN/nginx.conf" -t 2>"$RUN/problem" || refuse "$(grep -v 'test failed' "$RUN/problem")"
nginx -e stderr -c "$RUN/nginx.conf" &
server=$!
trap 'kill -QUIT $server 2>/dev/null' TERM INT QUIT

# A certificate and its key arrive together: kubelet changes all files of a Secret at once.
while kill -0 $server 2>/dev/null; do
    sleep "${CERTIFICATE_INTERVAL:-30}" &
    wait $! || true
    now=$(sum)
    if [ "$now" != "$seen" ]; then
        seen=$now
        take
        if nginx -e stderr -c "$RUN/nginx.conf" -t 2>"$RUN/problem"; then
            nginx -e stderr -c "$RUN/nginx.conf" -s reload
            echo "nginx: using the new certificate" >&2
        else
            echo "nginx: the new certificate is invalid; the old one stays in use: $(cat "$RUN/problem")" >&2
        fi
    fi
done
wait $server
