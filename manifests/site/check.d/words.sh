# How problems are printed: one line each, the name first.

# No-break and zero-width spaces, soft hyphens and byte order marks, which come with copied text.
invisible=$'\xc2\xa0|\xc2\xad|\xe2\x80\x8b|\xe2\x80\x8c|\xe2\x80\x8d|\xe2\x80\xaf|\xe2\x81\xa0|\xef\xbb\xbf'

problems=0
warnings=0

problem() { # problem NAME WHAT
  problems=$((problems + 1))
  printf 'wrong    %s: %s\n' "$1" "$2"
}

warn() { # warn NAME WHAT
  warnings=$((warnings + 1))
  printf 'warning  %s: %s\n' "$1" "$2"
}

note() { printf '         %s\n' "$1"; }

verdict() { # verdict WHAT_TO_SAY_WHERE_ALL_IS_WELL
  if [ "$problems" -gt 0 ]; then
    [ "$problems" = 1 ] && echo "1 thing is wrong." || echo "$problems things are wrong."
    exit 1
  fi
  echo "$1"
}

# The known word that is most similar to another: nearest WORD WORDS…, or nothing if none is similar.
nearest() {
  awk -v word="$1" 'BEGIN {
    best = int(length(word) / 4) + 2
    for (n = 2; n < ARGC; n++) {
      other = ARGV[n]; rows = length(word); columns = length(other)
      for (j = 0; j <= columns; j++) cost[0, j] = j
      for (i = 1; i <= rows; i++) {
        cost[i, 0] = i
        for (j = 1; j <= columns; j++) {
          change = cost[i-1, j-1] + (substr(word, i, 1) != substr(other, j, 1))
          least = cost[i-1, j] < cost[i, j-1] ? cost[i-1, j] + 1 : cost[i, j-1] + 1
          cost[i, j] = change < least ? change : least
        }
      }
      if (cost[rows, columns] < best) { best = cost[rows, columns]; found = other }
    }
    print found
  }' word "${@:2}"
}
