package forge_test

import (
	"cmp"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module       = "github.com/forge-build/forge"
	architecture = "docs/architecture.md"
)

// update is a flag of the test binary, as in planner.
var update = flag.Bool("update", false, "write what the code says into "+architecture)

// TestImports holds the table of docs/architecture.md and the code together: a package imports exactly what its row says.
func TestImports(t *testing.T) {
	text := readFile(t, architecture)
	rows := importRows(t, text)
	modules := foreignModules(t)
	found, uses := map[string]bool{}, map[string][]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if d.Name() == "testdata" || name != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		ours, foreign := imports(t, name, modules)
		if ours == nil {
			return nil
		}
		pkg := filepath.ToSlash(name)
		found[pkg] = true
		uses[pkg] = sorted(ours)
		is := strings.Join([]string{"|", "`" + pkg + "`", "|", cell(ours), "|", cell(foreign), "|"}, " ")
		is = strings.ReplaceAll(strings.ReplaceAll(is, "|  |", "| |"), "|  |", "| |")
		switch was, ok := rows[pkg]; {
		case was == is:
		case *update && ok:
			text = strings.Replace(text, was, is, 1)
		case *update:
			text = strings.TrimRight(text, "\n") + "\n" + is + "\n"
		default:
			t.Errorf("%s is to say, or the code to change (go test . -run TestImports -update):\n%s", architecture, is)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rooms, _, _ := strings.Cut(text, storeysBegin)
	for _, pkg := range sorted(found) {
		if path.Dir(pkg) == "internal" && !strings.Contains(rooms, "\n| `"+pkg+"` |") {
			t.Errorf("the rooms of %s do not say what %s is for", architecture, pkg)
		}
	}
	for _, pkg := range sorted(rows) {
		switch {
		case found[pkg]:
		case *update:
			text = strings.Replace(text, rows[pkg]+"\n", "", 1)
		default:
			t.Errorf("%s lists package %s, which does not exist", architecture, pkg)
		}
	}
	is := storeys(uses)
	was, _, ok := strings.Cut(text[strings.Index(text, storeysBegin)+len(storeysBegin):], "```")
	switch {
	case !ok || !strings.Contains(text, storeysBegin):
		t.Errorf("%s has no drawing", architecture)
	case *update:
		text = strings.Replace(text, storeysBegin+was, storeysBegin+is, 1)
	case was != is:
		t.Errorf("the drawing of %s is to be\n%s", architecture, is)
	}
	if *update {
		if err := os.WriteFile(architecture, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// storeysBegin is what stands before the drawing.
const storeysBegin = "A package imports only from storeys below its own:\n\n```\n"

// storeys draws the packages, each one storey above the highest of those that it imports.
func storeys(uses map[string][]string) string {
	height := map[string]int{}
	var of func(pkg string) int
	of = func(pkg string) int {
		if height[pkg] == 0 {
			for _, used := range uses[pkg] {
				height[pkg] = max(height[pkg], of(used))
			}
			height[pkg]++
		}
		return height[pkg]
	}
	var floors [][]string
	for _, pkg := range sorted(uses) {
		for of(pkg) > len(floors) {
			floors = append(floors, nil)
		}
		floors[of(pkg)-1] = append(floors[of(pkg)-1], pkg)
	}
	var b strings.Builder
	for i, floor := range slices.Backward(floors) {
		fmt.Fprintf(&b, "%2d  %s\n", i+1, strings.Join(floor, "   "))
	}
	return b.String()
}

func cell(set map[string]bool) string { return strings.Join(sorted(set), " ") }

// imports are what the package in a directory imports but for tests, as the table names it; nil if it has no code.
func imports(t *testing.T, dir string, modules []string) (ours, foreign map[string]bool) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if ours == nil {
			ours, foreign = map[string]bool{}, map[string]bool{}
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if imported == module || strings.HasPrefix(imported, module+"/") {
				ours[cmp.Or(strings.TrimPrefix(strings.TrimPrefix(imported, module), "/"), ".")] = true
			} else if host, _, _ := strings.Cut(imported, "/"); strings.Contains(host, ".") {
				i := slices.IndexFunc(modules, func(m string) bool { return imported == m || strings.HasPrefix(imported, m+"/") })
				if i < 0 {
					t.Fatalf("%s imports %s, which go.mod does not require", name, imported)
				}
				foreign[strings.TrimPrefix(modules[i], "github.com/")] = true
			}
		}
	}
	return ours, foreign
}

// foreignModules are those that go.mod requires, long names first.
func foreignModules(t *testing.T) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(readFile(t, "go.mod")) {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) >= 2 && strings.HasPrefix(fields[1], "v") {
			all = append(all, fields[0])
		}
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}

// importRows are the rows of the table, by package.
func importRows(t *testing.T, text string) map[string]string {
	t.Helper()
	_, section, ok := strings.Cut(text, "\n## Imports\n")
	if !ok {
		t.Fatal(architecture + " has no section Imports")
	}
	rows := map[string]string{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) == 5 && strings.Contains(cells[1], "`") {
			rows[path.Clean(strings.Trim(strings.TrimSpace(cells[1]), "`"))] = strings.TrimRight(line, "\n")
		}
	}
	return rows
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func sorted[V any](set map[string]V) []string { return slices.Sorted(maps.Keys(set)) }
