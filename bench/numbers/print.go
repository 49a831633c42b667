package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// print writes the numbers, and the places of rules that few places break.
func (s *survey) print() {
	lines, exported := 0, 0
	for _, r := range s.rooms {
		lines += r.lines
		exported += r.exported
	}
	structs := len(s.found["struct types"])
	delete(s.found, "struct types")
	slices.Sort(s.lengths)
	at := func(part float64) int { return s.lengths[int(part*float64(len(s.lengths)-1))] }
	fmt.Printf("lines outside tests: %d in %d files (tests and benchmarks: %d)\n", lines, len(s.files), s.tests)
	fmt.Printf("exported identifiers: %d\n", exported)
	fmt.Printf("struct types: %d, %.1f per 1,000 lines\n", structs, 1000*float64(structs)/float64(lines))
	fmt.Printf("functions: %d; lines p50 %d, p90 %d, max %d (%s)\n", len(s.lengths), at(.5), at(.9), at(1), s.longest)
	fmt.Printf("rows of the imports table that nobody uses: %d\n", len(s.unused))
	for _, row := range s.unused {
		fmt.Println("   ", row)
	}
	for _, rule := range rules() {
		fmt.Printf("%s: %d\n", rule, len(s.found[rule]))
		for _, place := range s.found[rule] {
			fmt.Println("   ", place)
		}
	}
	fmt.Printf("rooms: %d\n", len(s.rooms))
	names := slices.SortedFunc(maps.Keys(s.rooms), func(a, b string) int { return cmp.Compare(s.rooms[b].lines, s.rooms[a].lines) })
	for _, name := range names {
		fmt.Printf("    %-28s %6d lines %5d exported\n", name, s.rooms[name].lines, s.rooms[name].exported)
	}
}

// rules are the names of what is counted by place.
func rules() []string {
	return []string{
		"bool parameters", "interfaces asked for by type assertion", "places that act on the text of an error",
		"os.Rename outside internal/durable", "flock outside internal/flock", "http.Transport outside internal/web", "init functions",
		"files longer than 400 lines", "functions longer than 60 lines", "interfaces of more than 5 methods", "structs of more than 12 fields",
	}
}
