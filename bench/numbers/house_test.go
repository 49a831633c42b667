package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// maxBools is how many parameters of functions may be of type bool.
const maxBools = 15

// TestHouse holds the rules of the house that can be counted.
func TestHouse(t *testing.T) {
	s, err := look("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.files) < 100 {
		t.Fatalf("%d files were read, which are not all", len(s.files))
	}
	allowed := map[string][]string{ // what is apart, by rule: the beginnings of places
		"functions longer than 60 lines": {"runtime/syscalls_"}, // tables
		"os.Rename outside internal/durable": {
			"snapshot/remove.go", // of a tree too deep to be removed by its paths
			"runtime/place.go",   // of directories in a container's file system, below a descriptor
		},
	}
	for _, rule := range rules() {
		if rule == "bool parameters" || rule == "structs of more than 12 fields" {
			continue
		}
		for _, place := range s.found[rule] {
			if !slices.ContainsFunc(allowed[rule], func(apart string) bool { return strings.HasPrefix(place, apart) }) {
				t.Errorf("%s: %s", rule, place)
			}
		}
	}
	if bools := s.found["bool parameters"]; len(bools) > maxBools {
		t.Errorf("bool parameters: %d, more than %d: an options value or two functions say more at the call:\n%s", len(bools), maxBools, strings.Join(bools, "\n"))
	}
	for _, row := range s.unused {
		t.Error("the table of docs/architecture.md allows what nobody imports: ", row)
	}
}

// TestLook counts in a tree that breaks every rule.
func TestLook(t *testing.T) {
	s, err := look("testdata/broken")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules() {
		if len(s.found[rule]) == 0 {
			t.Errorf("%s: none was found in testdata/broken", rule)
		}
	}
	if got, want := fmt.Sprint(s.unused), "[room: planner]"; got != want {
		t.Errorf("rows that nobody uses: %s, want %s", got, want)
	}
}
