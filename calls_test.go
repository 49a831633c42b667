package forge_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// callRooms lists calls that are easily made in the wrong way, and the packages that make them for all others.
var callRooms = map[string][]string{
	"os.Rename":             {"internal/durable"},
	"syscall.Rename":        {"internal/durable"},
	"unix.Rename":           {"internal/durable"},
	"unix.Renameat":         {"internal/durable", "runtime", "snapshot"}, // moves what stands for a mount; what lies too deep to be removed
	"unix.Renameat2":        {"internal/durable"},
	"syscall.Flock":         {"internal/flock"},
	"unix.Flock":            {"internal/flock"},
	"http.Transport":        {"internal/web", "internal/grpc"}, // the latter only HTTP/2, and without retries
	"http.DefaultTransport": {},
	"http.DefaultClient":    {"bench"}, // its floors are without forge
	"http.Client":           {},
}

// TestCallRooms holds callRooms and the code together: nobody else makes these calls, and a room that is listed does.
func TestCallRooms(t *testing.T) {
	used := map[string]bool{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			if d != nil && d.IsDir() && (d.Name() == "testdata" || name != "." && strings.HasPrefix(d.Name(), ".")) {
				return fs.SkipDir
			}
			return err
		}
		pkg := path.Dir(filepath.ToSlash(name))
		calls, err := selectors(name)
		for _, call := range calls {
			rooms, listed := callRooms[call]
			used[call+" "+pkg] = true
			if listed && !slices.Contains(rooms, pkg) {
				t.Errorf("%s uses %s: that is for %s", name, call, strings.Join(rooms, ", "))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for call, rooms := range callRooms {
		for _, pkg := range rooms {
			if !used[call+" "+pkg] && !strings.HasPrefix(pkg, "internal/") {
				t.Errorf("%s does not use %s: take it from the list", pkg, call)
			}
		}
	}
}

// selectors lists the package.Name expressions of a file.
func selectors(name string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	packages := map[string]string{} // by the name that the file uses
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		local := path.Base(imported)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		packages[local] = path.Base(imported)
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && packages[x.Name] != "" {
				found = append(found, packages[x.Name]+"."+s.Sel.Name)
			}
		}
		return true
	})
	return found, nil
}
