# Sourced by the tests of the package: how they say what they look at, and how they fail.

# is WHAT COMMAND ...: the command succeeds.
is() {
    local what=$1
    shift
    if ! "$@" >"$folder/said" 2>&1; then
        echo "NOT SO: $what" >&2
        echo "  $*" >&2
        sed 's/^/  | /' "$folder/said" >&2
        exit 1
    fi
    echo "ok: $what"
}

# in_it WHAT TEXT: what the command before has said contains this text.
in_it() {
    if ! grep -qF -e "$2" "$folder/said"; then
        echo "NOT SO: $1" >&2
        sed 's/^/  | /' "$folder/said" >&2
        exit 1
    fi
    echo "ok: $1"
}

# says WHAT EXPECTED COMMAND ...: the command succeeds, and its output is this.
says() {
    local what=$1 expected=$2 said status=0
    shift 2
    said=$("$@" 2>&1) || status=$?
    if [ $status != 0 ] || [ "$said" != "$expected" ]; then
        echo "NOT SO: $what" >&2
        printf '  %s\n  exit %s, expected:\n%s\n  said:\n%s\n' "$*" $status "$expected" "$said" >&2
        exit 1
    fi
    echo "ok: $what"
}

# until WHAT COMMAND ...: the command succeeds within a minute.
until_so() {
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@" >"$folder/said" 2>&1; do
        if [ $SECONDS -ge $end ]; then
            echo "NOT SO within a minute: $what" >&2
            echo "  $*" >&2
            sed 's/^/  | /' "$folder/said" >&2
            exit 1
        fi
        sleep 0.1
    done
    echo "ok: $what"
}

not() { ! "$@"; }
