// Command numbers prints how the code is shaped: sizes, and places that the house has rules about. It reads syntax only, so
// that it takes a moment and works on any commit.
//
// usage: numbers [DIR]
package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/forge-build/forge"

// A survey is what is counted.
type survey struct {
	rooms      map[string]*room
	interfaces map[string]bool // their names, to know an assertion to one from an assertion to a struct
	files      []*source
	lengths    []int // of functions, in lines
	longest    string
	found      map[string][]string // by rule: the places
	tests      int                 // lines
	unused     []string            // rows of the imports table
}

type room struct{ lines, exported int }

// A source is a parsed file outside tests.
type source struct {
	name, room string
	set        *token.FileSet
	file       *ast.File
	lines      int
}

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := run(dir); err != nil {
		fmt.Fprintln(os.Stderr, "numbers:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	s, err := look(dir)
	if err != nil {
		return err
	}
	s.print()
	return nil
}

// look counts what there is in a directory.
func look(dir string) (*survey, error) {
	s := &survey{rooms: map[string]*room{}, interfaces: map[string]bool{}, found: map[string][]string{}}
	if err := s.read(dir); err != nil {
		return nil, err
	}
	for _, f := range s.files {
		s.declarations(f)
	}
	for _, f := range s.files {
		ast.Inspect(f.file, func(n ast.Node) bool { s.node(f, n); return true })
	}
	var err error
	s.unused, err = s.unusedRows(dir)
	return s, err
}

// read parses all files outside tests and counts the lines of the tests.
func (s *survey) read(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != dir && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		f := &source{name: filepath.ToSlash(rel), lines: bytes.Count(text, []byte("\n")), set: token.NewFileSet()}
		f.room = path.Dir(f.name)
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(f.room, "test") || f.room == "bench" || strings.HasPrefix(f.room, "bench/") || strings.HasPrefix(f.room, "scripts/") {
			s.tests += f.lines
			return nil
		}
		if f.file, err = parser.ParseFile(f.set, name, text, parser.SkipObjectResolution); err != nil {
			return err
		}
		s.files = append(s.files, f)
		if s.rooms[f.room] == nil {
			s.rooms[f.room] = &room{}
		}
		s.rooms[f.room].lines += f.lines
		return nil
	})
}

// declarations counts what a file declares at its top, and measures functions.
func (s *survey) declarations(f *source) {
	if f.lines > 400 {
		s.add("files longer than 400 lines", f, f.file.Pos(), strconv.Itoa(f.lines))
	}
	for _, d := range f.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			s.function(f, d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				s.spec(f, spec)
			}
		}
	}
}

func (s *survey) spec(f *source, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			s.export(f, name.Name)
		}
	case *ast.TypeSpec:
		s.export(f, spec.Name.Name)
		switch t := spec.Type.(type) {
		case *ast.StructType:
			s.add("struct types", f, spec.Pos(), "")
			if n := t.Fields.NumFields(); n > 12 {
				s.add("structs of more than 12 fields", f, spec.Pos(), fmt.Sprintf("%s %d", spec.Name.Name, n))
			}
		case *ast.InterfaceType:
			s.interfaces[f.file.Name.Name+"."+spec.Name.Name] = true
			if n := t.Methods.NumFields(); n > 5 {
				s.add("interfaces of more than 5 methods", f, spec.Pos(), fmt.Sprintf("%s %d", spec.Name.Name, n))
			}
		}
	}
}

func (s *survey) export(f *source, name string) {
	if ast.IsExported(name) && f.file.Name.Name != "main" {
		s.rooms[f.room].exported++
	}
}

func (s *survey) function(f *source, d *ast.FuncDecl) {
	if d.Recv == nil || exportedReceiver(d.Recv) {
		s.export(f, d.Name.Name)
	}
	if d.Name.Name == "init" && d.Recv == nil {
		s.add("init functions", f, d.Pos(), "")
	}
	for _, p := range d.Type.Params.List {
		if id, ok := p.Type.(*ast.Ident); ok && id.Name == "bool" {
			for _, name := range p.Names {
				s.add("bool parameters", f, name.Pos(), d.Name.Name+" "+name.Name)
			}
		}
	}
	n := f.set.Position(d.End()).Line - f.set.Position(d.Pos()).Line + 1
	s.lengths = append(s.lengths, n)
	if n == slices.Max(s.lengths) {
		s.longest = fmt.Sprintf("%s %s", f.name, d.Name.Name)
	}
	if n > 60 {
		s.add("functions longer than 60 lines", f, d.Pos(), fmt.Sprintf("%s %d", d.Name.Name, n))
	}
}

func exportedReceiver(recv *ast.FieldList) bool {
	t := recv.List[0].Type
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	if p, ok := t.(*ast.IndexExpr); ok {
		t = p.X
	}
	id, ok := t.(*ast.Ident)
	return ok && id.IsExported()
}

// node looks for what has a place of its own.
func (s *survey) node(f *source, n ast.Node) {
	switch n := n.(type) {
	case *ast.TypeAssertExpr:
		if name := s.interfaceName(f, n.Type); name != "" {
			s.add("interfaces asked for by type assertion", f, n.Pos(), name)
		}
	case *ast.TypeSwitchStmt:
		for _, c := range n.Body.List {
			for _, t := range c.(*ast.CaseClause).List {
				if name := s.interfaceName(f, t); name != "" {
					s.add("interfaces asked for by type assertion", f, t.Pos(), name)
				}
			}
		}
	case *ast.CallExpr:
		if pkg, _ := selector(n.Fun); pkg == "strings" && slices.ContainsFunc(n.Args, isErrorText) {
			s.add("places that act on the text of an error", f, n.Pos(), "")
		}
	case *ast.BinaryExpr:
		if (n.Op == token.EQL || n.Op == token.NEQ) && (isErrorText(n.X) || isErrorText(n.Y)) {
			s.add("places that act on the text of an error", f, n.Pos(), "")
		}
	case *ast.SelectorExpr:
		s.owned(f, n)
	}
}

// owned are calls that belong to one room.
func (s *survey) owned(f *source, n *ast.SelectorExpr) {
	for _, rule := range []struct{ what, pkg, names, room string }{
		{"os.Rename outside internal/durable", "os", "Rename", "internal/durable"},
		{"os.Rename outside internal/durable", "unix", "Renameat Renameat2", "internal/durable"},
		{"flock outside internal/flock", "syscall", "Flock", "internal/flock"},
		{"flock outside internal/flock", "unix", "Flock", "internal/flock"},
		{"http.Transport outside internal/web", "http", "Transport DefaultTransport DefaultClient", "internal/web"},
	} {
		pkg, name := selector(n)
		if pkg == rule.pkg && slices.Contains(strings.Fields(rule.names), name) && f.room != rule.room {
			s.add(rule.what, f, n.Pos(), pkg+"."+name)
		}
	}
}

// interfaceName is the name of an interface; "" is a type that is none, as far as syntax shows.
func (s *survey) interfaceName(f *source, t ast.Expr) string {
	switch t := t.(type) {
	case *ast.InterfaceType:
		return "interface{…}"
	case *ast.Ident:
		if s.interfaces[f.file.Name.Name+"."+t.Name] {
			return t.Name
		}
	case *ast.SelectorExpr:
		pkg, name := selector(t)
		if s.interfaces[pkg+"."+name] || pkg == "io" || pkg == "fs" && name == "ReadDirFile" {
			return pkg + "." + name
		}
	}
	return ""
}

func selector(e ast.Expr) (pkg, name string) {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	return id.Name, sel.Sel.Name
}

// isErrorText reports whether an expression is err.Error() of something.
func isErrorText(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok || len(call.Args) > 0 {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Error"
}

func (s *survey) add(what string, f *source, at token.Pos, note string) {
	s.found[what] = append(s.found[what], strings.TrimSpace(fmt.Sprintf("%s:%d %s", f.name, f.set.Position(at).Line, note)))
}

// unusedRows are the imports that docs/architecture.md allows and nobody uses.
func (s *survey) unusedRows(dir string) (unused []string, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "docs/architecture.md"))
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, f := range s.files {
		for _, spec := range f.file.Imports {
			used[f.room+" "+strings.Trim(spec.Path.Value, `"`)] = true
		}
	}
	_, section, _ := strings.Cut(string(text), "\n## Imports\n")
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		pkg := strings.Trim(strings.TrimSpace(cells[1]), "`")
		if s.rooms[pkg] == nil {
			continue
		}
		for _, entry := range append(strings.Fields(cells[2]), strings.Fields(cells[3])...) {
			if !importedAs(used, pkg, entry) {
				unused = append(unused, pkg+": "+entry)
			}
		}
	}
	return unused, nil
}

func importedAs(used map[string]bool, pkg, entry string) bool {
	ours := path.Join(module, entry)
	if used[pkg+" "+ours] {
		return true
	}
	for u := range used {
		if rest, ok := strings.CutPrefix(u, pkg+" "); ok && !strings.HasPrefix(rest, module) {
			rest = strings.TrimPrefix(rest, "github.com/")
			if rest == entry || strings.HasPrefix(rest, entry+"/") {
				return true
			}
		}
	}
	return false
}
