package main

import (
	"errors"
	"strings"
	"testing"
)

// TestUsage makes mistakes on command lines, and looks at what is said of them.
func TestUsage(t *testing.T) {
	for line, want := range map[string]string{
		"run --nmae x y":           "unknown flag: --nmae; did you mean --name?",
		"run -itZ x":               "unknown flag: -Z",
		"exec --nothing a b":       "unknown flag: --nothing",
		"exec -Z a b":              "unknown flag: -Z",
		"create -z a":              "unknown flag: -z",
		"top -x a":                 "unknown flag: -x",
		"ps --no-nothing=1":        "unknown flag: --no-nothing",
		"volume ls -Z":             "unknown flag: -Z",
		"run --name":               "flag needs an argument: --name",
		"run -it --name":           "flag needs an argument: --name",
		"ps -n":                    "flag needs an argument: --last",
		"run -h":                   "flag needs an argument: --hostname",
		"network create --subnet":  "flag needs an argument: --subnet",
		"ps --store":               "flag needs an argument: --store",
		"ps -nx":                   `--last: expected a valid 64 bit int but got "x"`,
		"run --pull=sometimes a":   `--pull must be one of "always","missing","never","lazy" but got "sometimes"`,
		"build --quiet=perhaps .":  `--quiet: bool value must be true, 1, yes, false, 0 or no but got "perhaps"`,
		"volume prune --filter -a": "",
	} {
		_, err := parse(&cli{}, strings.Fields(line))
		err = explainUsage(err)
		got := ""
		if u, ok := errors.AsType[*usageError](err); ok && u.status == usageStatus {
			got = u.Error()
		} else if err != nil {
			t.Errorf("%s: %v, want exit status %d", line, err, usageStatus)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
