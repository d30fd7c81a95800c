# The files below secrets/. Their values are never shown.

# The value of a name in a file of NAME=VALUE lines.
secret_of() { sed -n "s/^$2=//p" "secrets/$1" 2>/dev/null | head -n 1 | tr -d '\r'; }

must_have() { # must_have FILE NAME HOW
  [ -r "secrets/$1" ] || return 0 # reported already
  [ -n "$(secret_of "$1" "$2")" ] || problem "secrets/$1" "$2= is missing: $3"
}

must_be_there() { # must_be_there FILE WHAT
  if [ ! -e "secrets/$1" ]; then
    problem "secrets/$1" "the file is missing: $2"
  elif [ ! -r "secrets/$1" ]; then
    problem "secrets/$1" "the file can't be read"
  elif [ ! -s "secrets/$1" ] && [ "${1##*/}" != root_chain.pem ]; then
    problem "secrets/$1" "the file is empty: $2"
  else
    return 0
  fi
  return 1
}

must_know() { # must_know FILE NAME…: no line but these
  local line name file=$1; shift
  [ -r "secrets/$file" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%$'\r'}
    [[ -z $line || $line == \#* ]] && continue
    name=${line%%=*}
    case " $* " in
    *" $name "*) [[ $line == *=[[:space:]]* || $line == *[[:space:]] || $line == *=[\"\']* ]] &&
      problem "secrets/$file" "$name: remove blanks and quotes, because they would be part of the secret" ;;
    *)
      local like; like=$(nearest "$name" "$@")
      problem "secrets/$file" "the name before the = in one of its lines is unknown${like:+; did you mean $like?}" ;;
    esac
  done <"secrets/$file"
}

check_secrets() {
  local name key random="32 random bytes in hexadecimal, from: openssl rand -hex 32"
  if on secrets/hub; then
    must_be_there hub/hub.env "proxy-token=, crypt-key= and cookie-secret=, each $random"
    must_know hub/hub.env proxy-token crypt-key cookie-secret database-url
    for name in proxy-token crypt-key cookie-secret; do
      must_have hub/hub.env $name "$random"
      key=$(secret_of hub/hub.env $name)
      [ -z "$key" ] || [[ $key =~ ^[0-9a-fA-F]{64}(;[0-9a-fA-F]{64})*$ ]] || problem secrets/hub/hub.env "$name is not $random"
    done
    key=$(secret_of hub/hub.env crypt-key)
    [ -n "$key" ] && [ "$key" = "$(secret_of hub/hub.env cookie-secret)" ] &&
      problem secrets/hub/hub.env "crypt-key and cookie-secret are the same: generate each one separately"
    on hub-database-url && must_have hub/hub.env database-url "such as postgresql+psycopg2://hub:PASSWORD@database/hub"
    must_be_there hub/login.env "GITHUB_CLIENT_ID= and GITHUB_CLIENT_SECRET= of your OAuth application"
    local provider; provider=$(value LOGIN_PROVIDER)
    if [ "${provider:-github}" = github ]; then
      must_know hub/login.env GITHUB_CLIENT_ID GITHUB_CLIENT_SECRET
      must_have hub/login.env GITHUB_CLIENT_ID "GitHub shows it for your OAuth application"
      must_have hub/login.env GITHUB_CLIENT_SECRET "GitHub shows it only once, when you create it"
    fi
  fi
  if on secrets/log-shipper; then
    must_be_there log-shipper/amqp.env "password=, of the account AMQP_USERNAME"
    must_know log-shipper/amqp.env password username
    must_have log-shipper/amqp.env password "of the account AMQP_USERNAME"
  fi
  if on secrets/firefly; then
    must_be_there firefly/firefly.env "admin-password=, from: openssl rand -hex 32"
    must_know firefly/firefly.env admin-password
    must_have firefly/firefly.env admin-password "from: openssl rand -hex 32"
    key=$(secret_of firefly/firefly.env admin-password)
    [ -z "$key" ] || [ "${#key}" -ge 20 ] || problem secrets/firefly/firefly.env "admin-password is short: take it from openssl rand -hex 32"
  fi
  if on secrets/registry && must_be_there registry/config.json "what docker login writes"; then
    grep -q '"auths"' secrets/registry/config.json || problem secrets/registry/config.json "it has no \"auths\", so it is not a dockerconfigjson"
    grep -q '"credsStore"' secrets/registry/config.json &&
      problem secrets/registry/config.json "it has credsStore: the credentials are in a store on your machine, not in this file"
  fi
  on secrets/nginx && check_certificate nginx && must_be_there nginx/root_chain.pem "the authority's chain, or an empty file if tls.crt contains it"
  on secrets/ingress && check_certificate ingress
  check_tracked
}

check_certificate() { # check_certificate FOLDER
  local before=$problems
  must_be_there "$1/tls.crt" "the certificate, as PEM" && {
    grep -q -- '-----BEGIN CERTIFICATE-----' "secrets/$1/tls.crt" || problem "secrets/$1/tls.crt" "the file contains no certificate (PEM)"
    grep -q -- 'PRIVATE KEY-----' "secrets/$1/tls.crt" && problem "secrets/$1/tls.crt" "it contains a private key: move the key to tls.key"
  }
  must_be_there "$1/tls.key" "the certificate's key, as PEM" && {
    grep -q -- '-----BEGIN .*PRIVATE KEY-----' "secrets/$1/tls.key" || problem "secrets/$1/tls.key" "the file contains no private key (PEM)"
    grep -q -- 'ENCRYPTED' "secrets/$1/tls.key" && problem "secrets/$1/tls.key" "it has a passphrase, which nginx can't enter; remove it: openssl pkey -in tls.key -out plain.key"
  }
  [ "$problems" -gt "$before" ] || ! command -v openssl >/dev/null || check_pair "$1"
  return 0
}

check_pair() { # check_pair FOLDER: what only openssl can tell
  local certificate="secrets/$1/tls.crt" key="secrets/$1/tls.key" option=-checkhost public host
  if ! public=$(openssl x509 -in "$certificate" -noout -pubkey 2>/dev/null); then
    problem "$certificate" "openssl can't read its first certificate"
    return
  fi
  [ "$public" = "$(openssl pkey -in "$key" -passin pass: -pubout 2>/dev/null)" ] ||
    problem "$key" "it is not the key of the first certificate in tls.crt, which must be the server's own"
  if ! openssl x509 -in "$certificate" -noout -checkend 0 >/dev/null; then
    problem "$certificate" "it has expired"
  elif ! openssl x509 -in "$certificate" -noout -checkend $((14 * 24 * 3600)) >/dev/null; then
    warn "$certificate" "it expires within 14 days"
  fi
  host=$(value SITE_HOST)
  [[ $host =~ ^[0-9.]+$ ]] && option=-checkip
  [ -z "$host" ] || openssl x509 -in "$certificate" -noout $option "$host" | grep -q 'does match' ||
    problem "$certificate" "browsers do not accept it for SITE_HOST, $host"
}

# Without git, nobody commits the files.
check_tracked() {
  local file
  command -v git >/dev/null || return 0
  while IFS= read -r file; do
    [ -z "$file" ] || problem "secrets/${file#secrets/}" "git tracks this file: remove it with git rm --cached, and replace the secret"
  done < <(git ls-files secrets 2>/dev/null | grep -v '/kustomization.yaml$\|^secrets/.gitignore$')
  return 0
}
