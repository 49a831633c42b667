package forge_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/forge-build/forge"

// TestImports holds the table of docs/architecture.md and the code together: what a package imports is allowed there,
// and every package of the table and of the tree is known to the other.
func TestImports(t *testing.T) {
	allowed := readImportTable(t)
	found := map[string]bool{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			if d != nil && d.IsDir() && (d.Name() == "testdata" || name != "." && strings.HasPrefix(d.Name(), ".")) {
				return fs.SkipDir
			}
			return err
		}
		pkg := path.Dir(filepath.ToSlash(name))
		found[pkg] = true
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if entry := tableEntry(imported); entry != "" && !slices.ContainsFunc(allowed[pkg], func(a string) bool {
				return a == entry || strings.HasPrefix(entry, a+"/") && !strings.HasPrefix(imported, module)
			}) {
				t.Errorf("%s imports %s, which docs/architecture.md does not allow", name, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range allowed {
		if !found[pkg] {
			t.Errorf("docs/architecture.md lists package %s, which does not exist", pkg)
		}
	}
	for pkg := range found {
		if _, ok := allowed[pkg]; !ok {
			t.Errorf("package %s is not listed in docs/architecture.md", pkg)
		}
	}
}

// tableEntry is what the table calls an import; "" for the standard library.
func tableEntry(imported string) string {
	if imported == module {
		return "."
	}
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		return ours
	}
	host, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(host, ".") {
		return ""
	}
	return strings.TrimPrefix(imported, "github.com/")
}

func readImportTable(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Imports\n")
	if !ok {
		t.Fatal("docs/architecture.md has no section Imports")
	}
	table := map[string][]string{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		pkg := strings.Trim(strings.TrimSpace(cells[1]), "`")
		table[pkg] = append(strings.Fields(cells[2]), strings.Fields(cells[3])...)
	}
	if len(table) < 10 {
		t.Fatalf("the table of imports has %d rows", len(table))
	}
	return table
}
