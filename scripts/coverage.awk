# SPDX-License-Identifier: GPL-2.0-only
# Adds up what llvm-cov says into lines and branches per crate and file: a table on stdout, and the
# same for programs in the file that -v json=FILE names. Lines are read in lcov's form (SF and DA
# records), branches as `llvm-cov show` has them, where one that is in several programs, or in
# several instances of a generic function, stands at the same place each time. Tests beside the code
# are not counted; where they are is read from the sources.
# usage: awk -v json=FILE -f coverage.awk of=sources SOURCE... of=lines LCOV of=branches SHOWN

BEGIN { SUBSEP = "/" }

# `#[cfg(test)]` or the like, then `mod NAME {` up to the end of the file, or `mod NAME;`.
of == "sources" {
    if (gated && match($0, /^(pub(\(crate\))? )?mod [a-z_]+/)) {
        name = substr($0, RSTART, RLENGTH)
        sub(/.* /, "", name)
        if (/;$/) aside[folder(FILENAME) name] = 1
        else if (!(FILENAME in tests)) tests[FILENAME] = FNR
    }
    gated = /^#\[cfg\((test|all\(test|any\(test|feature = "sim")/
    next
}

of == "lines" && /^SF:/ { begin(substr($0, 4)) }
of == "branches" && /^\/.*:$/ { begin(substr($0, 1, length($0) - 1)) }

!counted { next }

of == "lines" && /^DA:/ {
    split(substr($0, 4), field, ",")
    tally("lines", field[1], field[1], field[2] > 0)
}

#     |  Branch (LINE:COLUMN): [True: COUNT, False: COUNT]
of == "branches" && /^[ |]*Branch \([0-9]+:[0-9]+\): \[True: / {
    place = $0
    sub(/^[^(]*\(/, "", place)
    sub(/\).*/, "", place)
    split(place, field, ":")
    tally("branches", field[1], place " true", !/\[True: 0,/)
    tally("branches", field[1], place " false", !/False: 0\]/)
}

# What follows is of the file at `path`.
function begin(path) {
    file = path
    sub(/^\/src\//, "", file)
    counted = file ~ /^[a-z]+\/src\// && !is_aside(file)
}

function tally(what, line, id, is_hit,    crate) {
    if (file in tests && line + 0 >= tests[file]) return
    crate = file
    sub(/\/.*/, "", crate)
    files[file] = crates[crate] = 1
    if (!((file, what, id) in seen)) {
        seen[file, what, id] = 0
        all[file, what]++
        all[crate, what]++
    }
    if (is_hit && !seen[file, what, id]) {
        seen[file, what, id] = 1
        hit[file, what]++
        hit[crate, what]++
    }
}

# Where the modules of a file are.
function folder(path) {
    if (path ~ /\/(lib|main|mod)\.rs$/) sub(/[a-z]+\.rs$/, "", path)
    else sub(/\.rs$/, "/", path)
    return path
}

# Whether a file is a module for tests, or lies below one.
function is_aside(path) {
    sub(/\.rs$/, "", path)
    while (path ~ /\//) {
        if (path in aside) return 1
        sub(/\/[^\/]*$/, "", path)
    }
    return 0
}

function cell(name, what) {
    if (!all[name, what]) return sprintf("%6s %6s %7s", 0, 0, "-")
    return sprintf("%6d %6d %6.1f%%", hit[name, what], all[name, what],
        100 * hit[name, what] / all[name, what])
}

function row(name, title) { print cell(name, "lines") cell(name, "branches") "  " title }

function entry(name) {
    return sprintf("{\"lines\": [%d, %d], \"branches\": [%d, %d]}", hit[name, "lines"],
        all[name, "lines"], hit[name, "branches"], all[name, "branches"])
}

function object(names, count, indent,    text, i) {
    text = "{"
    for (i = 1; i <= count; i++)
        text = text (i > 1 ? "," : "") "\n" indent "  \"" names[i] "\": " entry(names[i])
    return text "\n" indent "}"
}

# Insertion sort: mawk has none of its own.
function sorted(set, names,    name, count, i) {
    count = 0
    for (name in set) {
        for (i = ++count; i > 1 && names[i - 1] > name; i--) names[i] = names[i - 1]
        names[i] = name
    }
    return count
}

END {
    crates_count = sorted(crates, crate_names)
    files_count = sorted(files, file_names)
    print "lines: run, all, share; branches: taken, all, share"
    for (i = 1; i <= crates_count; i++) row(crate_names[i], crate_names[i])
    print ""
    for (i = 1; i <= files_count; i++) row(file_names[i], file_names[i])
    print "{\n  \"crates\": " object(crate_names, crates_count, "  ") ",\n  \"files\": " \
        object(file_names, files_count, "  ") "\n}" >json
}
