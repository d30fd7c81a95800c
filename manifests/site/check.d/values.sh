# Each checks the value of one setting, and calls `problem` if it is wrong. An empty value is always right.

must_match() { # must_match NAME PATTERN WHAT EXAMPLE
  local given
  given=$(value "$1")
  [ -z "$given" ] || [[ $given =~ ^($2)$ ]] || problem "$1" "\"$given\" is not $3 (example: $1=$4)"
}

is_within() { # is_within NUMBER LEAST MOST
  [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

milliseconds() { # milliseconds DURATION: how many it has
  local rest=$1 number unit each total=0
  while [[ $rest =~ ^([0-9]+)\ *([a-z]+)\ *(.*)$ ]]; do
    number=${BASH_REMATCH[1]} unit=${BASH_REMATCH[2]} rest=${BASH_REMATCH[3]}
    case $unit in ms) each=1 ;; s*) each=1000 ;; m*) each=60000 ;; h*) each=3600000 ;; d*) each=86400000 ;; *) each=604800000 ;; esac
    [ ${#number} -lt 10 ] || number=999999999
    total=$((total + 10#$number * each))
  done
  printf '%s' $total
}

bytes_of() { # bytes_of SIZE: how many it has, in whole numbers
  local number=${1%%[!0-9]*} unit=${1##*[0-9. ]} each
  case $unit in kB) each=1000 ;; MB) each=1000000 ;; GB) each=1000000000 ;; Ki*) each=1024 ;; Mi*) each=1048576 ;; Gi*) each=1073741824 ;; *) each=1 ;; esac
  [ ${#number} -lt 10 ] || [ $each = 1 ] || number=999999999
  [ ${#number} -lt 18 ] || number=99999999999999999
  local fraction=${1#"$number"}
  [[ $fraction =~ ^\.([0-9]{1,6}) ]] && fraction=${BASH_REMATCH[1]} || fraction=0
  printf '%s' $((10#$number * each + 10#$fraction * each / 10 ** ${#fraction}))
}

must_last() { # must_last NAME PATTERN [LEAST MOST]: a duration, within the daemon's limits
  local given
  given=$(value "$1")
  # Not everybody expects that a number alone means seconds.
  if [[ $given =~ ^[1-9][0-9]*$ ]]; then
    warn "$1" "$given means $given seconds: write a unit (example: $1=5m)"
    given+=s
  else
    must_match "$1" "$2" "a duration, which is a number and a unit" 5m
  fi
  [ -n "${3-}" ] && [[ $given =~ ^($2)$ ]] || return 0
  is_within "$(milliseconds "$given")" "$(milliseconds "$3")" "$(milliseconds "$4")" ||
    problem "$1" "\"$given\" is not from $3 to $4"
}

must_count() { # must_count NAME LEAST MOST [WORD…]: a whole number within the daemon's limits, or a word
  local given name=$1 least=$2 most=$3
  given=$(value "$1")
  shift 3
  [[ -z $given || " $* " == *" $given "* ]] && return 0
  [[ $given =~ ^0*[0-9]{1,9}$ ]] && is_within "$((10#$given))" "$least" "$most" ||
    problem "$name" "\"$given\" is not a whole number from $least to $most${1:+ or ${1}} (example: $name=$((least < 10 ? 10 : least)))"
}

must_hold() { # must_hold NAME LEAST MOST: a size within the daemon's limits
  local given
  given=$(value "$1")
  must_match "$1" "$bytes" "a size" 1MiB
  [[ $given =~ ^($bytes)$ ]] || return 0
  is_within "$(bytes_of "$given")" "$(bytes_of "$2")" "$(bytes_of "$3")" || problem "$1" "\"$given\" is not from $2 to $3"
}

must_be_set() { # must_be_set NAME WHY EXAMPLE
  [ -n "$(value "$1")" ] || problem "$1" "it is missing: $2 (example: $1=$3)"
}
