#!/usr/bin/env bash
# Plants every bug of mutations/ in a copy of the tree: the check that its patch names must be green
# before and red after.
#   ci/mutate.sh [NAME...]
#   ci/mutate.sh --list       the table of them, which is mutations/LIST.md
# About three hours on two cores.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

# One place for every copy: cargo takes the artifacts of another path for those of this one.
work="$(realpath -m "${CARGO_TARGET_DIR:-target}")/mutations"
tree="$work/tree"
log="$work/log"
export CARGO_TARGET_DIR="$work/target"
mkdir -p "$work"

fresh_tree() {
    rm -rf "$tree"
    mkdir "$tree"
    # --touch: files newer than any artifact, so that the last bug is not what gets tested. A file
    # that is deleted but not yet committed cannot be read.
    git ls-files -co --exclude-standard -z | tar -c --ignore-failed-read --warning=no-failed-read --null -T - |
        tar -x --touch -C "$tree"
}

check() { (cd "$tree" && eval "$1") >"$log" 2>&1; }

header() { sed -n "s/^# $1: //p" "$patch"; }

# In a table a bar would end the cell.
cell() { header "$1" | sed 's/|/\\|/g'; }

if [ "${1:-}" = --list ]; then
    printf '# The planted bugs\n\n%s\n\n' 'Made by `ci/mutate.sh --list`.'
    printf '| %s | %s | %s | %s |\n' bug "what it breaks" "caught by" "which is part of" --- --- --- ---
    for patch in mutations/*.patch; do
        name=${patch#mutations/}
        printf '| `%s` | %s | `%s` | `%s` |\n' "${name%.patch}" "$(cell bug)" "$(cell red)" "$(cell check)"
    done
    exit
fi

if [ $# = 0 ]; then
    set -- mutations/*.patch
    set -- "${@##*/}"
fi

caught=0 missed=0 skipped=0 total=$#
declare -A green
for name; do
    name=${name%.patch}
    patch="mutations/$name.patch"
    command=$(header check)
    red=$(header red)
    [ -n "$command" ] && [ -n "$red" ] || { echo "$patch does not say its check"; exit 1; }

    fresh_tree
    if [ -z "${green[$command]:-}" ]; then
        check "$command" || { cat "$log"; echo "without any bug, $command is red"; exit 1; }
        green[$command]=yes
    fi
    # The ceiling: the copy may lie within this repository, and is none of its subdirectories.
    GIT_CEILING_DIRECTORIES="$work" git -C "$tree" apply "$PWD/$patch"

    # Red for the reason that the patch gives: in a list of failures, four spaces and the test's
    # name. A bug that does not compile, or a full disk, catches nothing.
    if check "$command"; then
        if grep -q '^SKIPPED' "$log"; then
            result="SKIPPED" skipped=$((skipped + 1))
        else
            result="MISSED" missed=$((missed + 1))
        fi
    elif grep -qE "    $red$" "$log"; then
        result="caught" caught=$((caught + 1))
    else
        cat "$log"
        result="MISSED (not by $red)" missed=$((missed + 1))
    fi
    echo "[$((caught + missed + skipped))/$total] $result  $name  by $command"
done

[ "$skipped" = 0 ] || echo "$skipped skipped: their tool is missing"
echo "mutations: $caught caught, $missed missed"
[ "$missed" = 0 ]
