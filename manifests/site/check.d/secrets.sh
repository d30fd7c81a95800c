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
  elif [ ! -f "secrets/$1" ] || [ ! -r "secrets/$1" ]; then
    problem "secrets/$1" "it can't be read, or it is not a file"
  elif [ ! -s "secrets/$1" ] && [ "${1##*/}" != root_chain.pem ]; then
    problem "secrets/$1" "the file is empty: $2"
  elif [[ $(readlink "secrets/$1") == */* ]]; then
    problem "secrets/$1" "it is a link to another folder, which kustomize refuses: copy the file"
  elif [[ $(head -c 3 "secrets/$1" | od -An -tx1) =~ ^\ (ef\ bb\ bf|ff\ fe|fe\ ff) ]]; then
    problem "secrets/$1" "it begins with a byte order mark, which would be part of a name or a secret: save it as UTF-8 without one"
  else
    return 0
  fi
  return 1
}

must_know() { # must_know FILE NAME…: no line but these, each once
  local line name file=$1 number=0 like seen=" "; shift
  [ -f "secrets/$file" ] && [ -r "secrets/$file" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1))
    line=${line%$'\r'}
    [[ -z $line || $line == \#* ]] && continue
    name=${line%%=*}
    case " $* " in
    *" $name "*)
      [[ $seen != *" $name "* ]] || problem "secrets/$file" "$name is there twice: remove one line"
      seen+="$name "
      check_value "$file" "$name" "${line#*=}" ;;
    *)
      like=$(nearest "$name" "$@")
      problem "secrets/$file" "line $number does not begin with one of these names and a =: $*${like:+; did you mean $like?}" ;;
    esac
  done <"secrets/$file"
}

check_value() { # check_value FILE NAME VALUE: what nobody means as a secret. The value itself is never shown.
  case $3 in
  [[:space:]]* | *[[:space:]] | [\"\']* | [“”‘’„]*) problem "secrets/$1" "$2: remove blanks and quotes, because they would be part of the secret" ;;
  *[[:space:]]\#*) problem "secrets/$1" "$2: remove the comment, because it would be part of the secret" ;;
  … | ... | \<*\> | \$\(*\) | \`*\` | PASSWORD | SECRET | TODO | [Cc][Hh][Aa][Nn][Gg][Ee][Mm][Ee] | [Cc][Hh][Aa][Nn][Gg][Ee][-_][Mm][Ee] | *:PASSWORD@*)
    problem "secrets/$1" "$2: it still has a placeholder: write the secret itself" ;;
  esac
  [[ ! $3 =~ ^([xX]{3,}|\*{3,})$ ]] || problem "secrets/$1" "$2: it still has a placeholder: write the secret itself"
  [[ ! $3 =~ $invisible && $3 != *[[:cntrl:]]* ]] || problem "secrets/$1" "$2: it contains an invisible character: type the secret again"
}

check_secrets() {
  local name key random="32 random bytes in hexadecimal, from: openssl rand -hex 32"
  if on secrets/hub; then
    must_be_there hub/hub.env "proxy-token=, crypt-key= and cookie-secret=, each $random"
    must_know hub/hub.env proxy-token crypt-key cookie-secret database-url
    for name in proxy-token crypt-key cookie-secret; do
      must_have hub/hub.env $name "$random"
      key=$(secret_of hub/hub.env $name)
      # Only the crypt-key may have an old one beside it.
      [ $name != crypt-key ] || key=${key//;/}
      [ -z "$key" ] || [[ $key =~ ^([0-9a-fA-F]{64})+$ && ($name == crypt-key || ${#key} == 64) ]] || problem secrets/hub/hub.env "$name is not $random"
    done
    while IFS= read -r name; do
      problem secrets/hub/hub.env "$name are the same: generate each one separately"
    done < <(same_secrets)
    if on hub-database-url; then
      must_have hub/hub.env database-url "such as postgresql+psycopg2://hub:PASSWORD@database/hub"
      key=$(secret_of hub/hub.env database-url)
      [[ -z $key || $key =~ ^[a-z0-9+]+:// ]] || problem secrets/hub/hub.env "database-url is not an address such as postgresql+psycopg2://hub:PASSWORD@database/hub"
    elif [ -n "$(secret_of hub/hub.env database-url)" ]; then
      warn secrets/hub/hub.env "database-url has no effect: switch hub-database-url on"
    fi
    local provider
    provider=$(value LOGIN_PROVIDER)
    case ${provider,,} in
    "" | github) provider=GITHUB ;;
    cilogon) provider=CILOGON ;;
    *) provider=OAUTH ;;
    esac
    must_be_there hub/login.env "${provider}_CLIENT_ID= and ${provider}_CLIENT_SECRET= of your OAuth application"
    # The other providers have more variables than these.
    [ $provider != GITHUB ] || must_know hub/login.env GITHUB_CLIENT_ID GITHUB_CLIENT_SECRET
    must_have hub/login.env ${provider}_CLIENT_ID "the provider shows it for your application"
    must_have hub/login.env ${provider}_CLIENT_SECRET "the provider shows it only once, when you create it"
  fi
  if on secrets/log-shipper; then
    must_be_there log-shipper/amqp.env "password=, the password of the account AMQP_USERNAME"
    must_know log-shipper/amqp.env password username
    must_have log-shipper/amqp.env password "the password of the account AMQP_USERNAME"
  fi
  if on secrets/firefly; then
    must_be_there firefly/firefly.env "admin-password=, from: openssl rand -hex 32"
    must_know firefly/firefly.env admin-password
    must_have firefly/firefly.env admin-password "from: openssl rand -hex 32"
    key=$(secret_of firefly/firefly.env admin-password)
    [ -z "$key" ] || [ "${#key}" -ge 20 ] || problem secrets/firefly/firefly.env "admin-password is short: take it from openssl rand -hex 32"
  fi
  on secrets/registry && must_be_there registry/config.json "what docker login writes" && check_registries
  if on secrets/nginx; then
    check_certificate nginx
    if must_be_there nginx/root_chain.pem "the authority's chain, or an empty file if tls.crt contains it" && [ -s secrets/nginx/root_chain.pem ]; then
      grep -q -- '-----BEGIN CERTIFICATE-----' secrets/nginx/root_chain.pem || problem secrets/nginx/root_chain.pem "the file contains no certificate (PEM)"
      grep -q -- 'PRIVATE KEY-----' secrets/nginx/root_chain.pem && problem secrets/nginx/root_chain.pem "it contains a private key: remove it"
    fi
  fi
  on secrets/ingress && check_certificate ingress
  check_tracked
  check_modes
}

# Which two of the Hub's secrets are the same.
same_secrets() {
  local one two
  while read -r one two; do
    [ -n "$(secret_of hub/hub.env "$one")" ] && [ "$(secret_of hub/hub.env "$one")" = "$(secret_of hub/hub.env "$two")" ] && echo "$one and $two"
  done <<'LIST'
crypt-key cookie-secret
proxy-token cookie-secret
proxy-token crypt-key
LIST
}

# kubectl reads the JSON. Each registry of `auths` needs credentials in the file itself.
check_registries() {
  local file=secrets/registry/config.json records kind name any=
  if ! records=$(kubectl patch --local -f kustomization.yaml --type=merge --patch-file=$file -o go-template='
{{- range $name, $entry := .auths}}{{if or $entry.auth $entry.username $entry.identitytoken}}with{{else}}without{{end}} {{$name}}
{{end}}{{if .credsStore}}store credsStore
{{end}}{{if .credHelpers}}store credHelpers
{{end}}' 2>/dev/null); then
    problem $file "it is not a dockerconfigjson, which is a JSON object with \"auths\""
    return
  fi
  while read -r kind name; do
    case $kind in
    with) any=1 ;;
    without) warn $file "$name has no credentials in this file" ;;
    store) warn $file "it has $name: those credentials are in a store on your machine, not in this file" ;;
    esac
  done <<<"$records"
  [ -n "$any" ] || problem $file "it has no \"auths\" with credentials, so it is not a dockerconfigjson that logs in"
}

# Other users of this machine.
check_modes() {
  local file
  file=$(find secrets -type f -perm -004 ! -name kustomization.yaml ! -name .gitignore 2>/dev/null | head -n 1)
  [ -z "$file" ] || warn "$file" "its mode lets every user of this machine read it: chmod -R go= manifests/site/secrets"
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
